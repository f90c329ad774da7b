package limiter

import "time"

// Dimension is what a provider counts.
type Dimension uint8

// What providers count. A quota of one dimension is spent by each request's Cost of it.
const (
	Requests Dimension = iota
	Tokens
	InputTokens
	OutputTokens
	Dimensions // how many there are
)

// String is the dimension's name as a metric label.
func (d Dimension) String() string {
	return [Dimensions]string{"requests", "tokens", "input_tokens", "output_tokens"}[d]
}

// Cost is what one request takes of each dimension, 0 or more.
type Cost [Dimensions]int64

// Said tells which fields of a Level the provider has given.
type Said uint8

// The fields of a Level.
const (
	SaidLimit Said = 1 << iota
	SaidRemaining
	SaidReset
)

// Level is what a provider says of one quota in the head of an answer.
type Level struct {
	Said      Said
	Absolute  bool          // Reset was an instant on the clock, so it counts from now; else from when the provider wrote it
	Limit     int64         // the most there is, 0 or more
	Remaining int64         // what is left after the request that was answered, 0 or more
	Reset     time.Duration // until the quota is full again, 0 or more
	Window    time.Duration // the period that Limit is for; 0: not known
}

// Levels is what one answer says, by dimension.
type Levels [Dimensions]Level

// Wait is how long a request has to wait at least before it asks again.
type Wait struct {
	For   time.Duration // 0: it may go now
	Exact bool          // the provider has said so; else it is a guess
}

// LevelStats is what a Ledger believes of one quota.
type LevelStats struct {
	Known     bool
	Limit     int64
	Remaining int64         // may go at once
	Reset     time.Duration // until it is full again, as far as known
}
