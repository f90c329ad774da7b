package demo

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxEcho = 64 << 10 // bytes of the caller's text that an answer looks at
	maxWord = 64       // bytes of one word of it
	minEcho = 8        // words of it that come before anything else is said
)

var (
	silence = [...]string{"You", "said", "nothing."}
	opening = [...]string{"You", "said:"}
	closing = [...]string{"I", "am", "Edge's", "demo", "provider", "and", "repeat", "what", "I", "hear,", "one", "word", "at", "a", "time."}
)

// answer makes the words of an answer one after another: what the caller said, who repeats it, and then the
// number of each further word, so that a lost one shows.
type answer struct {
	tokens int // words in all
	said   int // words made so far

	text   string // what the caller said, from the next word on
	echo   int    // words of it that will be repeated
	cutOff bool   // and it had more
}

// newAnswer returns an answer of so many words, at least one, to text.
func newAnswer(text string, tokens int) answer {
	a := answer{tokens: tokens, text: text}
	if len(text) > maxEcho {
		text = strings.Clone(head(text, maxEcho)) // lets go of the rest
		a.text, a.cutOff = text, true
	}
	room := max(minEcho, tokens-len(opening)-len(closing))
	for word, rest := nextWord(text); word != ""; word, rest = nextWord(rest) {
		if a.echo == room {
			a.cutOff = true
			break
		}
		a.echo++
	}
	return a
}

// more reports whether a word is left to make.
func (a *answer) more() bool { return a.said < a.tokens }

// appendWord appends the next word, with the space before it, as the inside of a JSON string.
func (a *answer) appendWord(dst []byte) []byte {
	if a.said > 0 {
		dst = append(dst, ' ')
	}
	i := a.said
	a.said++
	if a.echo == 0 {
		if i < len(silence) {
			return append(dst, silence[i]...)
		}
		i -= len(silence)
	} else {
		if i < len(opening) {
			return append(dst, opening[i]...)
		}
		if i -= len(opening); i < a.echo {
			return a.appendEcho(dst, i)
		}
		i -= a.echo
	}
	if i < len(closing) {
		return append(dst, closing[i]...)
	}
	return strconv.AppendInt(dst, int64(a.said), 10)
}

func (a *answer) appendEcho(dst []byte, i int) []byte {
	var word string
	word, a.text = nextWord(a.text)
	if i == 0 {
		dst = append(dst, "“"...)
	}
	if len(word) > maxWord {
		dst = append(appendEscaped(dst, head(word, maxWord)), "…"...)
	} else {
		dst = appendEscaped(dst, word)
	}
	if i == a.echo-1 {
		if a.cutOff {
			dst = append(dst, " …"...)
		}
		dst = append(dst, "”."...)
	}
	return dst
}

// nextWord returns the first word of s and what follows it, "" when there is none.
func nextWord(s string) (word, rest string) {
	s = strings.TrimLeftFunc(s, unicode.IsSpace)
	if end := strings.IndexFunc(s, unicode.IsSpace); end >= 0 {
		return s[:end], s[end:]
	}
	return s, ""
}

// head returns the first n bytes of s, which has more, or as few less as leave its last rune whole.
func head(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// textTokens is what text counts as part of a prompt.
func textTokens(text string) int { return (len(text) + 3) / 4 }
