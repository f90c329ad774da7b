package socket

import "errors"

// MostPipes is how many pipes are in use at a time at most; each is two descriptors.
const MostPipes = 64

// ErrNoSplice says that a Pipe cannot be filled here. Nothing was moved: the content is to be read as ever.
var ErrNoSplice = errors.New("socket: no splice")
