package socket

import "errors"

// ErrNoSplice says that a Pipe cannot be filled here. Nothing was moved: the content is to be read as ever.
var ErrNoSplice = errors.New("socket: no splice")
