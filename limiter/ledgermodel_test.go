package limiter

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"
)

var ledgerStart = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func TestLedgerThatKnowsNothingNeverWaits(t *testing.T) {
	var l Ledger
	var last Ticket
	for i := range 10000 {
		ticket, w, ok := l.Take(ledgerStart, Cost{Requests: 1, Tokens: 1 << 40})
		if !ok || w.For != 0 {
			t.Fatalf("request %d has to wait for %v", i, w.For)
		}
		last = ticket
	}
	l.Observe(last, ledgerStart, &Levels{})
	l.Observe(last, ledgerStart, &Levels{Requests: {Said: SaidLimit, Limit: 1}}) // no word of what remains
	if w := l.Peek(ledgerStart, Cost{Requests: 1}); w.For != 0 {
		t.Errorf("after answers that say nothing: wait %v", w.For)
	}
}

func TestLedgerBelievesARefusal(t *testing.T) {
	var l Ledger
	plenty := Levels{Requests: {Said: SaidLimit | SaidRemaining | SaidReset, Limit: 100, Remaining: 90, Reset: time.Second}}
	first, _, _ := l.Take(ledgerStart, Cost{Requests: 1})
	l.Observe(first, ledgerStart, &plenty)
	second, _, _ := l.Take(ledgerStart, Cost{Requests: 1})
	l.Refused(second, ledgerStart, 20*time.Second, &plenty) // the levels say otherwise
	for after := time.Duration(0); after < 20*time.Second; after += time.Second {
		w := l.Peek(ledgerStart.Add(after), Cost{Requests: 1})
		if !w.Exact || w.For < 20*time.Second-after || w.For > 20*time.Second-after+time.Second {
			t.Errorf("after %v: wait %+v, want the rest of 20 s", after, w)
		}
	}
	if w := l.Peek(ledgerStart.Add(21*time.Second), Cost{Requests: 1}); w.For != 0 {
		t.Errorf("after 21 s: wait %+v", w)
	}
}

func TestLedgerBelievesThatNothingIsLeft(t *testing.T) {
	for d := range Dimensions {
		var l Ledger
		var empty Levels
		empty[d] = Level{Said: SaidRemaining | SaidReset | SaidLimit, Limit: 1000, Reset: 30 * time.Second}
		l.Observe(Ticket{}, ledgerStart, &empty)
		w := l.Peek(ledgerStart, Cost{Requests: 1})
		if !w.Exact || w.For < 30*time.Second || w.For > 31*time.Second {
			t.Errorf("%v: wait %+v, want 30 s", d, w)
		}
	}
}

// A lane of which nothing but refusals is known opens again step by step.
// TestLedgerBelievesAPromise: of a quota of which nothing is left, a refusal tells the kind by its wait.
func TestLedgerBelievesAPromise(t *testing.T) {
	f := func(wait, reset time.Duration, want time.Duration) {
		t.Helper()
		var l Ledger
		var levels Levels
		levels[Requests] = Level{Said: SaidLimit | SaidRemaining | SaidReset, Limit: 6000, Remaining: 5999, Reset: 10 * time.Millisecond}
		levels[Tokens] = Level{Said: SaidLimit | SaidRemaining | SaidReset, Limit: 6000, Reset: reset}
		at := time.Unix(1e9, 0)
		l.Refused(l.Sent(at), at, wait, &levels)
		w := l.Peek(at, Cost{Requests: 1})
		if w.For < want || w.For > want+want/100+110*time.Millisecond {
			t.Errorf("wait %v, full in %v: got %v, want %v", wait, reset, w.For, want)
		}
	}
	f(2300*time.Millisecond, time.Minute, 2300*time.Millisecond) // some comes back before it is full
	f(time.Minute, time.Minute, time.Minute)
	f(45*time.Second, time.Minute, time.Minute) // not clear
	f(time.Minute, 30*time.Second, time.Minute)
}

func TestLedgerOpensByStepsAfterARefusal(t *testing.T) {
	var l Ledger
	ticket, _, _ := l.Take(ledgerStart, Cost{Requests: 1})
	l.Refused(ticket, ledgerStart, time.Second, &Levels{})
	at := ledgerStart.Add(time.Second + time.Millisecond)
	burst := func() (tickets []Ticket) {
		for {
			ticket, _, ok := l.Take(at, Cost{Requests: 1})
			if !ok {
				return tickets
			}
			tickets = append(tickets, ticket)
		}
	}
	went := 0
	for _, want := range []int{1, 2, 4, 8} {
		tickets := burst()
		if len(tickets) != want {
			t.Errorf("after %d answers %d may go, want %d", went, len(tickets), want)
		}
		went += len(tickets)
		for _, ticket := range tickets {
			l.Observe(ticket, at, &Levels{})
		}
	}
	// Refusals without a wait: longer and longer.
	longest := time.Duration(0)
	for range 12 {
		ticket, w, ok := l.Take(at, Cost{Requests: 1})
		for ; !ok; ticket, w, ok = l.Take(at, Cost{Requests: 1}) {
			at = at.Add(w.For)
			longest = max(longest, w.For)
		}
		l.Refused(ticket, at, 0, &Levels{})
	}
	if longest < 29*time.Second || longest > 31*time.Second {
		t.Errorf("the longest wait is %v, want 30 s", longest)
	}
}

// A provider that announces more than it gives is believed less: it announces 600 a minute and gives 5 a second.
func TestLedgerFindsOutLies(t *testing.T) {
	var l Ledger
	at, tokens := ledgerStart, 5.0
	filled := at
	sent, refused := 0, 0
	for at.Sub(ledgerStart) < 5*time.Minute {
		ticket, w, ok := l.Take(at, Cost{Requests: 1})
		if !ok {
			at = at.Add(w.For)
			continue
		}
		tokens = min(5, tokens+5*at.Sub(filled).Seconds())
		filled = at
		levels := Levels{Requests: {Said: SaidLimit | SaidRemaining | SaidReset, Limit: 600, Remaining: 500, Reset: 10*time.Second + time.Millisecond}}
		late := at.Sub(ledgerStart) > time.Minute
		if late {
			sent++
		}
		if tokens >= 1 {
			tokens--
			l.Observe(ticket, at, &levels)
		} else {
			if late {
				refused++
			}
			l.Refused(ticket, at, time.Duration((1-tokens)/5*1e9), &levels)
		}
		at = at.Add(time.Millisecond)
	}
	t.Logf("%d sent in 4 minutes, %d refused", sent, refused)
	if sent-refused < 240*5*7/10 || refused*20 > sent {
		t.Errorf("%d sent, %d refused, want 70 %% of what there is and under 5 %%", sent, refused)
	}
}

// FuzzLedger checks Q2 and Q3, and that nothing a provider says holds a request back for ever.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Add([]byte{1, 255, 0, 0, 255, 255, 7, 0, 2, 9, 9, 9, 9, 9, 9, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		var l Ledger
		at := ledgerStart
		gate := at
		var tickets []Ticket
		for len(script) >= 8 {
			op, d := script[0]%5, Dimension(script[1])%Dimensions
			a, b := int64(binary.LittleEndian.Uint16(script[2:])), int64(binary.LittleEndian.Uint16(script[4:]))
			c := time.Duration(binary.LittleEndian.Uint16(script[6:])) * 10 * time.Millisecond
			var levels Levels
			levels[d] = Level{Said: Said(script[0]/5) % 8, Absolute: script[1]&64 != 0, Limit: a, Remaining: b, Reset: c}
			if script[1]&128 != 0 {
				levels[d].Window = c
			}
			script = script[8:]
			var ticket Ticket
			if len(tickets) > 0 && op >= 2 {
				ticket, tickets = tickets[0], tickets[1:]
			}
			switch op {
			case 0:
				at = at.Add(c)
			case 1:
				cost := Cost{Requests: 1}
				cost[d] += a
				ticket, w, ok := l.Take(at, cost)
				if ok {
					tickets = append(tickets, ticket)
				}
				if ok && at.Before(gate) {
					t.Fatalf("a request went %v before the end of a refusal's wait", gate.Sub(at))
				}
				if !ok && (w.For <= 0 || w.For > 24*time.Hour) {
					t.Fatalf("wait %v", w.For)
				}
			case 2:
				l.Observe(ticket, at, &levels)
			case 3:
				l.Refused(ticket, at, c, &levels)
				if end := at.Add(c - time.Microsecond); end.After(gate) {
					gate = end
				}
			case 4:
				l.Return(ticket)
			}
		}
		for tries := 0; ; tries++ {
			_, w, ok := l.Take(at, Cost{Requests: 1})
			if ok {
				break
			}
			if tries > 1000 {
				t.Fatalf("nobody goes any more: %+v", l.Stats(at))
			}
			at = at.Add(w.For)
		}
	})
}

func TestHammerLedger(t *testing.T) {
	var l Ledger
	levels := Levels{Requests: {Said: SaidLimit | SaidRemaining | SaidReset, Limit: 100, Remaining: 50, Reset: time.Second}}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 2000 {
				at := ledgerStart.Add(time.Duration(i) * time.Millisecond)
				ticket, _, ok := l.Take(at, Cost{Requests: 1})
				switch {
				case !ok:
					l.Peek(at, Cost{Requests: 1})
				case i%97 == g:
					l.Refused(ticket, at, time.Millisecond, &levels)
				case i%13 == 0:
					l.Return(ticket)
				default:
					l.Depart(&ticket, at)
					l.Observe(ticket, at, &levels)
				}
				if i%50 == 0 {
					l.Stats(at)
					l.Rest(at)
				}
			}
		})
	}
	all.Wait()
}

func TestLedgerAllocatesNothing(t *testing.T) {
	var l Ledger
	at := ledgerStart
	levels := Levels{Requests: {Said: SaidLimit | SaidRemaining | SaidReset, Limit: 100, Remaining: 50, Reset: time.Second}}
	if n := testing.AllocsPerRun(100, func() {
		at = at.Add(time.Second)
		ticket, _, _ := l.Take(at, Cost{Requests: 1})
		l.Observe(ticket, at, &levels)
	}); n > 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}
