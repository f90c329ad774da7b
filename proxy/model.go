package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	modelMaxBytes = 512 // the longest decoded model
	modelMaxDepth = 512 // objects and arrays open at once, the outermost included; a multiple of 64
)

// What modelScan.end reports. Each is wrapped with what was found and at which byte, counted from 0; of the body
// itself no more than one character is shown, since the text goes to the caller and may go to a log.
var (
	errBodyJSON   = errors.New("the body is not JSON")
	errBodyObject = errors.New("the body is not a JSON object")
	errBodyDepth  = errors.New("the body nests deeper than " + strconv.Itoa(modelMaxDepth) + " levels")
	errModelTwice = errors.New(`the body has a second "model"`)
	errModelType  = errors.New(`"model" is not a string`)
	errModelText  = errors.New(`"model" is not valid Unicode`)
	errModelLong  = errors.New(`"model" is longer than ` + strconv.Itoa(modelMaxBytes) + " bytes")

	errFallbacksTwice = errors.New(`the body has a second "fallbacks"`)
	errFallbacksType  = errors.New(`"fallbacks" is not an array`)
)

// modelSpan says what a body's top-level "model" is and where it stands. Offsets count the raw bytes of the body
// from 0; cutting [start, rest) out of it removes the provider prefix and nothing else.
type modelSpan struct {
	present bool   // there is a top-level member "model"
	model   string // its decoded value, at most 512 bytes
	start   int64  // the value's first byte, inside the quotes
	rest    int64  // the first byte after the first '/' of the value, however that is spelt; 0 when it has none
	end     int64  // the closing quote
}

// fallbacksSpan says where a body's top-level "fallbacks" stands. Cutting [from, to) out of the body removes the member
// with the comma that goes with it, and leaves JSON.
type fallbacksSpan struct {
	present  bool
	from, to int64
	value    int64 // the '[' of its value
	end      int64 // the first byte after that value
}

// The names that modelScan looks for.
const (
	nameModel     = "model"
	nameFallbacks = "fallbacks"
)

// modelScan finds the top-level "model" of a JSON object that arrives in pieces, and checks the whole body against
// the grammar of RFC 8259 on the way. Two readers that see different models in one body would let a caller past a
// rule, so a second "model" is an error whichever way it is spelt, and the body is read to its end.
//
// Strings other than the model may hold any bytes but raw control characters: invalid UTF-8 is the provider's to
// judge. Names are compared decoded and exactly: "Model" is another member.
//
// With wishes set it finds "fallbacks" in the same way: an array, what is in it does not matter here.
//
// The zero value is ready. It keeps no reference to what it was given. Not safe for concurrent use.
type modelScan struct {
	base   int64 // offset in the body of the piece now being read
	start  int64 // these three are modelSpan's
	rest   int64
	stop   int64
	err    error     // the first fault; nothing is read after it
	state  scanState // what may come next
	text   scanState // the string that an escape belongs to: inPlain, inName or inModel
	then   scanState // what follows that string
	name   string    // what a top-level name is compared with: nameModel or nameFallbacks
	comma  int64     // offset of the last comma between members; 0 before the first
	extra  fallbacksSpan
	wish   scanWish
	first  bool   // "fallbacks" is the first member
	wishes bool   // look for "fallbacks"
	done   uint8  // bytes read of name; in a literal, the next in scanWords
	digits uint8  // how many hex digits of an escape are read
	object bool   // the innermost open value is an object
	found  bool   // the name "model" was seen at the top level
	unit   uint16 // the hex digits of an escape so far
	high   uint16 // first half of a surrogate pair in the model, 0 when none is open
	depth  uint16
	size   uint16                     // bytes used of value
	levels [modelMaxDepth / 64]uint64 // one bit a level: 1 for an object
	value  [modelMaxBytes]byte        // the model so far, decoded
}

// scanWish is how far modelScan is with "fallbacks".
type scanWish uint8

const (
	wishNone   scanWish = iota // not seen
	wishValue                  // in the value
	wishTail                   // after the value of the first member: the next name ends what is to be cut
	wishPassed                 // behind it
)

// scanState is what modelScan expects. Between tokens white space may come too.
type scanState uint8

const (
	wantObject      scanState = iota // the body's value
	wantNameOrClose                  // after '{'
	wantName                         // after ',' in an object
	wantColon
	wantModelColon // after the top-level name "model"
	wantModel      // after that colon
	wantFallbacksColon
	wantFallbacks
	wantValue
	wantValueOrClose // after '['
	wantComma        // after a value: ',' or what closes the one around it
	wantNothing      // after the body's value

	inPlain  // text of a string that matters to nobody here
	inName   // text of a top-level name that is a prefix of one that is looked for so far
	inModel  // text of the model
	inEscape // after a backslash
	inHex    // in the four digits of \u
	inWord   // in true, false or null

	inMinus // numbers: after '-'
	inZero  // after a leading 0
	inWhole // in the digits before '.'
	inPoint // after '.'
	inTenth // in the digits after '.'
	inE     // after 'e'
	inSign  // after the sign of the exponent
	inPower // in the digits of the exponent

	scanFailed
)

const scanWords = "true false null " // by their first letters, each ended by a space

// scanHex is 0x10 plus the value of a hex digit, and 0 for other bytes.
var scanHex = [256]byte{
	'0': 0x10, '1': 0x11, '2': 0x12, '3': 0x13, '4': 0x14, '5': 0x15, '6': 0x16, '7': 0x17, '8': 0x18, '9': 0x19,
	'a': 0x1a, 'b': 0x1b, 'c': 0x1c, 'd': 0x1d, 'e': 0x1e, 'f': 0x1f,
	'A': 0x1a, 'B': 0x1b, 'C': 0x1c, 'D': 0x1d, 'E': 0x1e, 'F': 0x1f,
}

// scanEscapes is what a backslash and one byte stand for.
var scanEscapes = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// scanDigits sorts the bytes of a number: '0', '1' to '9', '.', 'e', '+' and '-', and all others (0).
var scanDigits = [256]uint8{
	'0': 1, '1': 2, '2': 2, '3': 2, '4': 2, '5': 2, '6': 2, '7': 2, '8': 2, '9': 2,
	'.': 3, 'e': 4, 'E': 4, '+': 5, '-': 5,
}

// scanNumbers is RFC 8259's number: from inMinus+i, by scanDigits. scanFailed is a fault. What does not continue a
// whole number leads to wantComma, untaken.
var scanNumbers = [8][6]scanState{
	0:                 {scanFailed, inZero, inWhole, scanFailed, scanFailed, scanFailed},
	inZero - inMinus:  {wantComma, wantComma, wantComma, inPoint, inE, wantComma},
	inWhole - inMinus: {wantComma, inWhole, inWhole, inPoint, inE, wantComma},
	inPoint - inMinus: {scanFailed, inTenth, inTenth, scanFailed, scanFailed, scanFailed},
	inTenth - inMinus: {wantComma, inTenth, inTenth, wantComma, inE, wantComma},
	inE - inMinus:     {scanFailed, inPower, inPower, scanFailed, scanFailed, inSign},
	inSign - inMinus:  {scanFailed, inPower, inPower, scanFailed, scanFailed, scanFailed},
	inPower - inMinus: {wantComma, inPower, inPower, wantComma, wantComma, wantComma},
}

// write reads the next piece of the body, of any size.
func (s *modelScan) write(p []byte) {
	for i := 0; i < len(p); {
		if s.state >= inPlain {
			i = s.inside(p, i)
			continue
		}
		c, at := p[i], s.base+int64(i)
		i++
		if c <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
			continue
		}
		ok := false
		switch s.state {
		case wantComma:
			ok = s.follow(c, at)
		case wantColon:
			s.state, ok = wantValue, c == ':'
		case wantModelColon:
			s.state, ok = wantModel, c == ':'
		case wantName:
			ok = c == '"' && s.openName(at)
		case wantNameOrClose:
			ok = c == '"' && s.openName(at) || c == '}' && s.closeLevel(at)
		case wantValue:
			ok = s.open(c, at)
		case wantValueOrClose:
			ok = c == ']' && s.closeLevel(at) || s.open(c, at)
		case wantModel:
			ok = s.openAs('"', errModelType, c, at)
		case wantFallbacksColon:
			s.state, ok = wantFallbacks, c == ':'
		case wantFallbacks:
			ok = s.openAs('[', errFallbacksType, c, at)
		case wantObject:
			ok = s.openAs('{', errBodyObject, c, at)
		}
		if !ok {
			s.unexpected(c, at)
		}
	}
	s.base += int64(len(p))
}

// end reports what the pieces held; it is called after the last one. The error is the first fault in the body and
// wraps one of errBodyJSON, errBodyObject, errBodyDepth, errModelTwice, errModelType, errModelText, errModelLong, errFallbacksTwice
// and errFallbacksType.
// Cost: one allocation, the model.
func (s *modelScan) end() (modelSpan, error) {
	switch {
	case s.err != nil:
		return modelSpan{}, s.err
	case s.state != wantNothing:
		return modelSpan{}, fmt.Errorf("%w: it ends too soon at byte %d", errBodyJSON, s.base)
	}
	return modelSpan{present: s.found, model: string(s.value[:s.size]), start: s.start, rest: s.rest, end: s.stop}, nil
}

// fallbacks is where the member of that name stands, once end has found no fault.
func (s *modelScan) fallbacks() fallbacksSpan { return s.extra }

// fail keeps the first fault and ends the scan.
func (s *modelScan) fail(fault error, found string, at int64) {
	if s.err == nil {
		s.err, s.state = fmt.Errorf("%w: %s at byte %d", fault, found, at), scanFailed
	}
}

func (s *modelScan) unexpected(c byte, at int64) {
	found := strconv.QuoteRune(rune(c))
	if c >= utf8.RuneSelf {
		found = fmt.Sprintf("0x%x", c)
	}
	s.fail(errBodyJSON, "unexpected "+found, at)
}

// openAs begins the body, the model or the fallbacks, which only values that begin with want can be.
func (s *modelScan) openAs(want byte, fault error, c byte, at int64) bool {
	if !s.open(c, at) {
		return false
	}
	if c != want {
		s.fail(fault, "it begins with "+strconv.QuoteRune(rune(c)), at)
	} else if want == '"' {
		s.state, s.start = inModel, at+1
	} else if want == '[' {
		s.wish, s.extra.value = wishValue, at
	}
	return true
}

// open begins a value; false when c begins none.
func (s *modelScan) open(c byte, at int64) bool {
	switch c {
	case '"':
		s.state, s.then = inPlain, wantComma
	case '{', '[':
		s.openLevel(c == '{', at)
	case 't', 'f', 'n':
		s.state, s.done = inWord, uint8(strings.IndexByte(scanWords, c)+1)
	case '-':
		s.state = inMinus
	case '0':
		s.state = inZero
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		s.state = inWhole
	default:
		return false
	}
	return true
}

// openName begins the name of a member.
func (s *modelScan) openName(at int64) bool {
	if s.state, s.then, s.done = inPlain, wantColon, 0; s.depth == 1 {
		s.state, s.name = inName, nameModel
		if s.wishes {
			s.openWish(at)
		}
	}
	return true
}

// openWish notes where a top-level name begins, as far as "fallbacks" is not behind it.
func (s *modelScan) openWish(at int64) {
	switch s.wish {
	case wishNone:
		if s.extra.from = s.comma; s.comma == 0 {
			s.extra.from = at
		}
	case wishTail:
		s.wish, s.extra.to = wishPassed, at
	}
}

func (s *modelScan) openLevel(object bool, at int64) {
	if s.depth == modelMaxDepth {
		s.fail(errBodyDepth, "the next one begins", at)
		return
	}
	word, bit := &s.levels[s.depth/64], uint64(1)<<(s.depth%64)
	s.depth, s.object, s.state = s.depth+1, object, wantValueOrClose
	*word &^= bit
	if object {
		s.state = wantNameOrClose
		*word |= bit
	}
}

// closeLevel ends the innermost object or array.
func (s *modelScan) closeLevel(at int64) bool {
	s.depth--
	if s.state = wantComma; s.depth == 0 {
		s.state = wantNothing
		return true
	}
	if s.wish == wishValue && s.depth == 1 {
		s.closeWish(at + 1)
	}
	s.object = s.levels[(s.depth-1)/64]>>((s.depth-1)%64)&1 != 0
	return true
}

// closeWish ends the value of "fallbacks".
func (s *modelScan) closeWish(end int64) {
	s.wish, s.extra.end, s.extra.to = wishPassed, end, end
	if s.first { // the comma after it is to go, if there is one
		s.wish = wishTail
	}
}

// follow takes what may come after a value inside another.
func (s *modelScan) follow(c byte, at int64) bool {
	switch {
	case c == ',' && s.object:
		s.state, s.comma = wantName, at
	case c == ',':
		s.state = wantValue
	case c == '}' && s.object, c == ']' && !s.object:
		return s.closeLevel(at)
	}
	return c == ','
}

// inside reads on in the token that p[i] belongs to and returns the index of the first byte it did not take.
func (s *modelScan) inside(p []byte, i int) int {
	switch s.state {
	case inPlain:
		return s.skim(p, i)
	case inName, inModel:
		return s.read(p, i)
	case inEscape:
		return s.escape(p, i)
	case inHex:
		return s.hex(p, i)
	case inWord:
		return s.literal(p, i)
	case scanFailed:
		return len(p)
	}
	return s.number(p, i)
}

// skim goes over text that nobody needs. Whole escapes are taken here since some clients write every character
// beyond ASCII as one; an escape cut by the end of p, or a bad one, is left to escape and hex.
func (s *modelScan) skim(p []byte, i int) int {
	for {
		if i < len(p) && p[i] != '\\' { // escapes often follow one another
			i = scanPlain(p, i)
		}
		if i == len(p) {
			return i
		}
		switch rest := p[i+1:]; {
		case p[i] == '"':
			s.state = s.then
			return i + 1
		case p[i] != '\\':
			s.unexpected(p[i], s.base+int64(i))
			return len(p)
		case len(rest) > 0 && scanEscapes[rest[0]] != 0:
			i += 2
		case len(rest) > 4 && rest[0] == 'u' && scanHex[rest[1]]&scanHex[rest[2]]&scanHex[rest[3]]&scanHex[rest[4]] != 0:
			i += 6
		default:
			s.state, s.text = inEscape, inPlain
			return i + 1
		}
	}
}

// literal reads on in true, false or null.
func (s *modelScan) literal(p []byte, i int) int {
	for ; i < len(p) && s.state == inWord; i++ {
		if p[i] != scanWords[s.done] {
			s.unexpected(p[i], s.base+int64(i))
		} else if s.done++; scanWords[s.done] == ' ' {
			s.state = wantComma
		}
	}
	return i
}

// number reads on in a number. The byte that ends it is not taken.
func (s *modelScan) number(p []byte, i int) int {
	state := s.state
	for ; i < len(p); i++ {
		state = scanNumbers[(state-inMinus)%8][scanDigits[p[i]]]
		if state == wantComma {
			break
		}
		if state == scanFailed {
			s.unexpected(p[i], s.base+int64(i))
			return len(p)
		}
	}
	s.state = state
	return i
}

// scanPlain returns the index of the first quote, backslash or control character at or after p[i], or len(p).
func scanPlain(p []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(p); i += 8 {
		x := binary.LittleEndian.Uint64(p[i:])
		// A byte below 0x80 is less than n if taking n away sets its top bit. Flipping bit 1 puts the quote (0x22)
		// right above the control characters, so one comparison finds both; the other finds backslashes. A borrow
		// can only mark bytes above a true find, and the lowest mark is the one that counts.
		found := ((x^2*ones)-0x21*ones)&^x | ((x^'\\'*ones)-ones)&^x
		if found &= tops; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(p) && p[i] >= ' ' && p[i] != '"' && p[i] != '\\' {
		i++
	}
	return i
}
