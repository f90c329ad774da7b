//go:build wasip1

package guest

import "strconv"

// Level is the importance of a line in the log.
type Level int32

const (
	Debug Level = iota - 1
	Info
	Warn
	Error
)

// Enabled says whether the host keeps lines of the level.
func (l Level) Enabled() bool { return logEnabled(int32(l)) != 0 }

// Log writes a line to the host's log.
func Log(level Level, message string) { hostLog(int32(level), message) }

// Logf writes a line to the host's log. It knows %s, %d, %v and %q (all of them for strings, byte slices, integers, bools
// and errors) and %%: fmt would add 0.7 MB to the plugin. Anything else comes out as %!.
func Logf(level Level, format string, args ...any) {
	if !level.Enabled() {
		return
	}
	var line []byte
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			line = append(line, format[i])
			continue
		}
		i++
		switch verb := format[i]; {
		case verb == '%':
			line = append(line, '%')
		case len(args) == 0:
			line = append(line, "%!"...)
		default:
			line = appendArg(line, verb, args[0])
			args = args[1:]
		}
	}
	Log(level, string(line))
}

func appendArg(line []byte, verb byte, arg any) []byte {
	var said string
	switch arg := arg.(type) {
	case string:
		said = arg
	case []byte:
		said = string(arg)
	case error:
		said = arg.Error()
	case bool:
		return strconv.AppendBool(line, arg)
	case int:
		return strconv.AppendInt(line, int64(arg), 10)
	case int64:
		return strconv.AppendInt(line, arg, 10)
	case uint32:
		return strconv.AppendUint(line, uint64(arg), 10)
	default:
		said = "%!"
	}
	if verb == 'q' {
		return strconv.AppendQuote(line, said)
	}
	return append(line, said...)
}
