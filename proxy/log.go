package proxy

// Keys of log attributes.
const (
	keyProvider = "provider"
	keyRequest  = "request_id"
	keyStatus   = "status"
	keyAttempts = "attempts"
	keyDuration = "duration_seconds"
	keyReason   = "reason"
	keyError    = "error"
	keyMethod   = "method"
	keyCaller   = "caller" // its address
	keyToken    = "token"  // its name
	keyStack    = "stack"
	keyPlugin   = "plugin"
	keyPhase    = "phase"
	keyFunction = "function"
	keyDatabase = "database"
	keyKey      = "key"
)
