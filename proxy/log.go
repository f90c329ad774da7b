package proxy

// Keys of log attributes.
const (
	keyProvider = "provider"
	keyRequest  = "request_id"
	keyStatus   = "status"
	keyDuration = "duration_seconds"
	keyReason   = "reason"
	keyError    = "error"
	keyMethod   = "method"
	keyCaller   = "caller"
	keyStack    = "stack"
	keyPlugin   = "plugin"
	keyPhase    = "phase"
	keyFunction = "function"
	keyDatabase = "database"
)
