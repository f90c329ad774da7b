package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// scanPieces scans body cut at the given offsets, which ascend. Each piece is overwritten once it was read, as the
// slot of a real body is.
func scanPieces(body []byte, cuts ...int) (modelSpan, error) {
	var s modelScan
	from := 0
	for _, cut := range append(cuts, len(body)) {
		piece := bytes.Clone(body[from:cut])
		s.write(piece)
		for i := range piece {
			piece[i] = 0xdb
		}
		from = cut
	}
	return s.end()
}

// scanEveryWay scans body whole, in two pieces at every boundary and byte by byte, and fails if the answers differ.
func scanEveryWay(t *testing.T, body []byte) (modelSpan, error) {
	t.Helper()
	want, wantErr := scanPieces(body)
	check := func(how string, got modelSpan, err error) {
		t.Helper()
		if got != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("%.200q %s: got %+v, %v; whole: %+v, %v", body, how, got, err, want, wantErr)
		}
	}
	all := make([]int, 0, len(body)+1)
	for i := range len(body) + 1 {
		got, err := scanPieces(body, i)
		check("cut at "+strconv.Itoa(i), got, err)
		all = append(all, i)
	}
	got, err := scanPieces(body, all...)
	check("byte by byte", got, err)
	return want, wantErr
}

func TestModelScanFinds(t *testing.T) {
	// raw is the value as the body spells it, left what stays of it when the prefix is cut off.
	f := func(body, model, raw, left string) {
		t.Helper()
		got, err := scanEveryWay(t, []byte(body))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if !got.present || got.model != model || body[got.start:got.end] != raw {
			t.Fatalf("%s: got %+v, want model %q spelt %q", body, got, model, raw)
		}
		from := got.rest
		if from == 0 {
			from = got.start
		}
		if body[from:got.end] != left {
			t.Fatalf("%s: %+v leaves %q, want %q", body, got, body[from:got.end], left)
		}
		if body[got.start-1] != '"' || body[got.end] != '"' {
			t.Fatalf("%s: %+v is not between quotes", body, got)
		}
	}
	same := func(body, model, left string) {
		t.Helper()
		f(body, model, model, left)
	}
	same(`{"model":"gpt-4o"}`, "gpt-4o", "gpt-4o")
	same(`{"model":"openai/gpt-4o"}`, "openai/gpt-4o", "gpt-4o")
	same(" \t\r\n{ \"model\" \n:\t\"openai/gpt-4o\" , \"a\" : 1 } \r\n", "openai/gpt-4o", "gpt-4o")
	same(`{"model":"a/b/c"}`, "a/b/c", "b/c")
	same(`{"model":""}`, "", "")
	same(`{"model":"/"}`, "/", "")
	same(`{"model":"/x"}`, "/x", "x")
	same(`{"model":"openai/"}`, "openai/", "")
	same(`{"":"","model":"m","":0}`, "m", "m")
	same(`{"mode":"a","model":"m","models":"b","mod":"c","xmodel":"d","Model":"e","MODEL":"f"}`, "m", "m")
	same(`{"a":{"model":"x","b":[{"model":1}]},"model":"m","c":[["model",{"model":null}]]}`, "m", "m")
	same(`{"a":"model","model":"m","b":"\"model\":"}`, "m", "m")
	same(`{"n":[0,-0,1,-12,0.5,10.25e3,1E+2,0e-0,123456789012345678901234567890,1.0]`+
		`,"w":[true,false,null],"e":[{},[],"",[[]]],"model":"m"}`, "m", "m")
	same(`{"model":"é/日本/😀"}`, "é/日本/😀", "日本/😀")
	same("{\"bad\xff\xc3\":\"\xed\xa0\x80\xff\",\"e\":\"\x7f\\ud800\",\"model\":\"a/m\"}", "a/m", "m")

	f(`{"model":"openai\/gpt-4o"}`, "openai/gpt-4o", `openai\/gpt-4o`, "gpt-4o")
	f(`{"model":"\u006fpenai/gpt"}`, "openai/gpt", `\u006fpenai/gpt`, "gpt")
	f(`{"model":"openai\u002Fgpt"}`, "openai/gpt", `openai\u002Fgpt`, "gpt")
	f(`{"model":"a\u002fb\/c"}`, "a/b/c", `a\u002fb\/c`, `b\/c`)
	f(`{"mod\u0065l":"m"}`, "m", "m", "m")
	f(`{"\u006d\u006F\u0064\u0065\u006C":"a/m"}`, "a/m", "a/m", "m")
	f(`{"\u006dod\u0065lx":1,"model\u0000":2,"m\/odel":3,"model":"m"}`, "m", "m", "m")
	f(`{"model":"\"\\\/\b\f\n\r\t\u0000"}`, "\"\\/\b\f\n\r\t\x00", `\"\\\/\b\f\n\r\t\u0000`, `\b\f\n\r\t\u0000`)
	f(`{"model":"\ud83d\uDE00/\uD83D\ude00"}`, "😀/😀", `\ud83d\uDE00/\uD83D\ude00`, `\uD83D\ude00`)
	f(`{"model":"\u00e9\u20ac\uffff\ufffd"}`, "é€\uffff\ufffd", `\u00e9\u20ac\uffff\ufffd`, `\u00e9\u20ac\uffff\ufffd`)

	long := strings.Repeat("m", modelMaxBytes-2) + "é" // ends on the last byte there is room for
	same(`{"model":"`+long+`"}`, long, long)
	f(`{"model":"`+strings.Repeat(`\u006d`, modelMaxBytes)+`"}`, strings.Repeat("m", modelMaxBytes),
		strings.Repeat(`\u006d`, modelMaxBytes), strings.Repeat(`\u006d`, modelMaxBytes))
	deep := modelMaxDepth - 1 // the body is a level itself
	same(`{"a":`+strings.Repeat("[", deep)+strings.Repeat("]", deep)+`,"model":"m"}`, "m", "m")
	// Levels of both kinds, so that what each one is has to be remembered.
	same(strings.Repeat(`{"a":[0,`, modelMaxDepth/2)+"1"+strings.Repeat(`],"b":2}`, modelMaxDepth/2-1)+
		`],"model":"m"}`, "m", "m")
}

func TestModelScanWithoutModel(t *testing.T) {
	f := func(body string) {
		t.Helper()
		if got, err := scanEveryWay(t, []byte(body)); err != nil || got != (modelSpan{}) {
			t.Fatalf("%s: got %+v, %v, want none", body, got, err)
		}
	}
	f(`{}`)
	f(` { } `)
	f(`{"":""}`)
	f(`{"Model":"a/b","mode":"x","models":["model"],"model ":1," model":2}`)
	f(`{"a":{"model":"a/b"}}`)
	f(`{"a":[{"model":"a/b"},"model"]}`)
	f(`{"model\ud800":1,"\ud800model":1,"mod\u00e9l":1,"modél":1}`)
}

// scanRefused fails unless body is refused with want and text, however it is cut.
func scanRefused(t *testing.T, body string, want error, text string) {
	t.Helper()
	got, err := scanEveryWay(t, []byte(body))
	if !errors.Is(err, want) || got != (modelSpan{}) {
		t.Fatalf("%.200q: got %+v, %v, want %v", body, got, err, want)
	}
	if text = want.Error() + ": " + text; err.Error() != text {
		t.Fatalf("%.200q:\n got %s\nwant %s", body, err, text)
	}
}

func TestModelScanRefusesWhatIsNotJSON(t *testing.T) {
	for _, marked := range []string{ // » stands before the first byte that no JSON can go on with
		`»x`, `»}`, `»:`, "»\xef\xbb\xbf{}", "»\x00{}", "»\v{}", `{}»}`, `{} »{}`, `{}»0`, `{"model":"m"}»,`,
		`{»,}`, `{»/**/}`, `{»a:1}`, `{»1:1}`, `{»'a':1}`, `{»]`, `{»{}}`, `{"a" »1}`, `{"a"»}`, `{"a":»:1}`, `{"a":»}`,
		`{"a":1,»}`, `{"a":1,»,"b":2}`, `{"a":1,»2}`, `{"a":1 »"b":2}`, `{"a":{}»{}}`, `{"a":1»]`, `{"a":"b"»:1}`,
		`{"a":[1»}`, `{"a":[»}`, `{"a":[1,»]}`, `{"a":[»,1]}`, `{"a":[1»:2]}`, `{"a":[]»]`, `{"a":[[1]»}`, `{"a":[{}»}`,
		`{"model":»}`, `{"model"»}`, `{"model"»,"m"}`, `{"model":"m" »x`, `{"model":"a/b","c":»}`, `{"model"»"m"}`,
		`{"a":tru»}`, `{"a":»True}`, `{"a":fals»y}`, `{"a":nul»1}`, `{"a":null»l}`, `{"a":true»1}`, `{"a":»NaN}`, `{"a":t»xue}`,
		`{"a":0»1}`, `{"a":-0»1}`, `{"a":-»}`, `{"a":-»a}`, `{"a":-»-1}`, `{"a":-».5}`, `{"a":»+1}`, `{"a":».5}`, `{"a":1»-2}`,
		`{"a":1.»}`, `{"a":1.»e5}`, `{"a":1.»-5}`, `{"a":1.».5}`, `{"a":1.5».2}`, `{"a":1.5»+2}`, `{"a":0»-2}`,
		`{"a":1e»}`, `{"a":1e».5}`, `{"a":1e»e}`, `{"a":1e+»}`, `{"a":1e+»-1}`, `{"a":1e+».}`, `{"a":1e-»e}`,
		`{"a":1e5»e}`, `{"a":1e5».5}`, `{"a":1e5»+}`, `{"a":0»x10}`, `{"a":1 »2}`, `{"a":1»a}`, `{"a":1.5»a}`, `{"a":1e5»a}`,
		`{"a":"\»x"}`, `{"a":"\»'"}`, `{"a":"\»U0041"}`, `{"a":"\u004»g"}`, `{"a":"\u»-041"}`, `{"a":"\u12»"}`, "{\"a\":\"\\u12»\x80",
		"{\"a\":\"»\n\"}", "{\"a\":\"123456789»\x1f\"}", "{\"a\":\"12345678»\x00", "{\"a»\t\":1}", "{\"m»\x00odel\":1}",
		"{\"model\":\"a»\tb\"}", `{"model":"\»m"}`, `{"model":"\u00»_0"}`, `{"mod\u006»":1}`, `{"mod\»el":1}`,
	} {
		before, after, _ := strings.Cut(marked, "»")
		found := strconv.QuoteRune(rune(after[0]))
		if after[0] >= 0x80 {
			found = fmt.Sprintf("%#x", after[0])
		}
		scanRefused(t, before+after, errBodyJSON, fmt.Sprintf("unexpected %s at byte %d", found, len(before)))
	}
	whole := `{"a\u0062":[{"b":-1.5e+3},true,"x\n"],"model":"a\/\ud83d\ude00","c":null}`
	for i := range len(whole) {
		scanRefused(t, whole[:i], errBodyJSON, fmt.Sprintf("it ends too soon at byte %d", i))
	}
	scanRefused(t, " \n", errBodyJSON, "it ends too soon at byte 2")
}

// Every row and column of scanNumbers is met by all the words of up to six of a number's characters.
func TestModelScanNumbers(t *testing.T) {
	words := []string{""}
	for len(words[0]) < 6 {
		var longer []string
		for _, word := range words {
			for _, c := range "05.e-+" {
				longer = append(longer, word+string(c))
			}
		}
		words = longer
		for _, word := range words {
			body := []byte(`{"a":` + word + `}`)
			cut := 5 + len(word)/2
			if _, err := scanPieces(body, cut, cut+1); (err == nil) != json.Valid(body) {
				t.Fatalf("%s: %v, valid %v", body, err, json.Valid(body))
			}
		}
	}
}

func TestModelScanRefusesBodies(t *testing.T) {
	f := func(body string, want error, text string) {
		t.Helper()
		scanRefused(t, body, want, text)
	}
	for _, body := range []string{`[]`, `[{"model":"m"}]`, `"model"`, `0`, `-1`, `1.5`, `true`, `false`, `null`} {
		f(body, errBodyObject, fmt.Sprintf("it begins with '%c' at byte 0", body[0]))
	}
	f(`{"model":"a","model":"a"}`, errModelTwice, "its name ends at byte 19")
	f(`{"model":"a","mod\u0065l":"b"}`, errModelTwice, "its name ends at byte 24")
	f(`{"\u006dodel":"a","":"","model":1}`, errModelTwice, "its name ends at byte 30")
	f(`{"model":1}`, errModelType, "it begins with '1' at byte 9")
	f(`{"model": null}`, errModelType, "it begins with 'n' at byte 10")
	f(`{"model":["m"]}`, errModelType, "it begins with '[' at byte 9")
	f(`{"model":{"model":"m"}}`, errModelType, "it begins with '{' at byte 9")

	f(`{"model":"\ud800"}`, errModelText, "lone surrogate before the quote at byte 16")
	f(`{"model":"\ud800x"}`, errModelText, "lone surrogate before the character at byte 16")
	f(`{"model":"\ud800\n"}`, errModelText, "lone surrogate before the escape that ends at byte 17")
	f(`{"model":"\ud800\ud800\udc00"}`, errModelText, "lone surrogate before the escape that ends at byte 21")
	f(`{"model":"a/\udc00\ud800"}`, errModelText, "lone surrogate ends at byte 17")
	for _, bad := range []string{"\xff", "\xc3", "a\x80", "\xc3\\u00a9", "\xe2\x82", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80"} {
		f(`{"model":"`+bad+`"}`, errModelText,
			fmt.Sprintf("invalid UTF-8 in the value that ends at byte %d", len(bad)+10))
	}
	m := strings.Repeat("m", modelMaxBytes)
	f(`{"model":"`+m+`m"}`, errModelLong, "it goes on at byte 522")
	f(`{"model":"`+m[1:]+`é"}`, errModelLong, "it goes on at byte 522")
	f(`{"model":"`+m[1:]+`\u00e9"}`, errModelLong, "it goes on at byte 526")
	f(`{"model":"`+m[3:]+`\ud83d\ude00"}`, errModelLong, "it goes on at byte 530")

	f(`{"a":`+strings.Repeat("[", modelMaxDepth), errBodyDepth, "the next one begins at byte 516")
	f(strings.Repeat(`{"a":`, modelMaxDepth)+"[", errBodyDepth, "the next one begins at byte 2560")
}

// A body is read in slots, so offsets must go on counting over many writes, empty ones included.
func TestModelScanOffsetsCountOverPieces(t *testing.T) {
	body := []byte(`{"text":"` + strings.Repeat(`word \"\n\u00e9 `, 20_000) + `","model":"openai/gpt-4o","n":[1,2]}`)
	want := int64(bytes.Index(body, []byte("openai/")))
	var s modelScan
	for rest := body; len(rest) > 0; {
		n := min(1+rand.IntN(5000), len(rest))
		s.write(rest[:n])
		s.write(nil)
		rest = rest[n:]
	}
	got, err := s.end()
	if wanted := (modelSpan{true, "openai/gpt-4o", want, want + 7, want + 13}); err != nil || got != wanted {
		t.Fatalf("got %+v, %v, want %+v", got, err, wanted)
	}
}

func TestModelScanAllocs(t *testing.T) {
	body := []byte(`{"a":[1.5e3,true,{"b":"c\u00e9"}],"model":"openai\/gpt-4o","text":"` + strings.Repeat("x", 1000) + `"}`)
	var s modelScan
	if n := testing.AllocsPerRun(100, func() {
		s = modelScan{}
		for i := 0; i < len(body); i += 7 {
			s.write(body[i:min(i+7, len(body))])
		}
	}); n != 0 {
		t.Errorf("write: %v allocations, want 0", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if span, err := s.end(); err != nil || span.model != "openai/gpt-4o" {
			t.Error(span, err)
		}
	}); n > 1 {
		t.Errorf("end: %v allocations, want at most 1, the model", n)
	}
}

// Bytes at random are seldom JSON, so bodies are grown by the grammar here, half of them with a byte changed.
func TestModelScanAgreesWithEncodingJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const bad = "{}[],:\"\\u/0e.- \n\x00\xff"
	found, refused := 0, 0
	for range 20_000 {
		body := []byte(scanGrow(r, 0))
		if r.IntN(2) == 0 {
			body[r.IntN(len(body))] = bad[r.IntN(len(bad))]
		}
		want, ok := scanOracle(body)
		got, err := scanPieces(body, r.IntN(len(body)+1))
		if ok != (err == nil) || got != want {
			t.Fatalf("%q: got %+v, %v; want %+v, fine %v", body, got, err, want, ok)
		}
		switch {
		case err != nil:
			refused++
		case got.present:
			found++
		}
	}
	if found < 1000 || refused < 1000 {
		t.Fatalf("%d bodies with a model and %d refused prove little", found, refused)
	}
}

// scanGrow makes a JSON value, an object at level 0.
func scanGrow(r *rand.Rand, level int) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	space := func() string { return pick("", "", "", " ", "\n\t\r ") }
	kind := r.IntN(6)
	if level == 0 {
		kind = 0
	} else if level > 4 {
		kind = 2 + r.IntN(4)
	}
	switch kind {
	case 0, 1:
		members := make([]string, r.IntN(4))
		for i := range members {
			if kind == 0 {
				name := pick(`"model"`, `"model"`, `"mod\u0065l"`, `"a"`, `""`, `"mode"`, `"models"`, `"\ud800"`, `"b\n"`)
				members[i] = space() + name + space() + ":"
			}
			members[i] += space() + scanGrow(r, level+1) + space()
		}
		if kind == 0 {
			return "{" + strings.Join(members, ",") + "}"
		}
		return "[" + strings.Join(members, ",") + "]"
	case 2:
		return pick("0", "-1", "12.5", "1e9", "-0.25E-10", "100", "7e+0")
	case 3:
		return pick("true", "false", "null")
	}
	text := ""
	for range r.IntN(6) {
		text += pick("openai", "/", `\/`, `\u002F`, "gpt", "é", `\"`, `\ud83d\ude00`, `\u00e9`, "a longer run of text", "model")
	}
	return `"` + text + `"`
}

var scanUnit = regexp.MustCompile(`(?s)^(?:\\u[0-9a-fA-F]{4}|\\.|.)`)

// scanOracle says by way of encoding/json what modelScan has to find; ok is false when it has to refuse.
func scanOracle(body []byte) (want modelSpan, ok bool) {
	if !json.Valid(body) || bytes.TrimLeft(body, " \t\r\n")[0] != '{' {
		return modelSpan{}, false
	}
	for i, depth, quoted := 0, 0, false; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '{' || c == '['):
			depth++
		case !quoted && (c == '}' || c == ']'):
			depth--
		}
		if depth > modelMaxDepth {
			return modelSpan{}, false
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	_, _ = d.Token()
	for d.More() {
		name, _ := d.Token()
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return modelSpan{}, false
		}
		if name != "model" {
			continue
		}
		if want.present || raw[0] != '"' {
			return modelSpan{}, false
		}
		want = modelSpan{present: true, end: d.InputOffset() - 1}
		want.start = want.end - int64(len(raw)-2)
		if !scanOracleText(raw, &want) {
			return modelSpan{}, false
		}
	}
	return want, true
}

// scanOracleText fills in model and rest from the quoted value.
func scanOracleText(raw []byte, want *modelSpan) bool {
	if json.Unmarshal(raw, &want.model) != nil || len(want.model) > modelMaxBytes || !utf8.Valid(raw) {
		return false
	}
	// What encoding/json cannot decode it makes U+FFFD, so one that is not spelt in the text is a lone surrogate.
	spelt := 0
	for at := 1; at < len(raw)-1; {
		unit := scanUnit.FindString(string(raw[at:min(at+6, len(raw))]))
		at += len(unit)
		switch strings.ToLower(unit) {
		case "\ufffd", `\ufffd`:
			spelt++
		case "/", `\/`, `\u002f`:
			if want.rest == 0 {
				want.rest = want.start - 1 + int64(at)
			}
		}
	}
	return spelt == strings.Count(want.model, "\ufffd")
}

func FuzzModelScan(f *testing.F) {
	for _, body := range []string{
		`{}`, `[]`, ``, `null`, `{"model":"openai/gpt-4o"}`, `{"model":"a","mod\u0065l":"b"}`, `{"":"","model":"\u006fpenai\/x"}`,
		`{"model":"\ud83d\ude00\ufffd","a":[1.5e+3,-0,true,false,null,{"model":2}]}`, `{"model":"\ud800/"}`, `{"model":1}`,
		"{\"model\":\"\xff\"}", "{\"a\xff\":\"\xff\\u00e9\\n\"}", ` { "a" : [ ] , "model" : "m/" } `,
		`{"a":` + strings.Repeat("[", 511) + strings.Repeat("]", 511) + `}`,
		`{"a":` + strings.Repeat("[", 512) + strings.Repeat("]", 512) + `}`,
		`{"model":"` + strings.Repeat("m", 512) + `"}`, `{"model":"` + strings.Repeat(`é`, 257) + `"}`,
	} {
		f.Add([]byte(body), uint64(len(body)))
	}
	f.Fuzz(func(t *testing.T, body []byte, seed uint64) {
		got, err := scanPieces(body)
		want, ok := scanOracle(body)
		if ok != (err == nil) || got != want {
			t.Fatalf("%q: got %+v, %v; want %+v, fine %v", body, got, err, want, ok)
		}
		if valid := json.Valid(body); valid && errors.Is(err, errBodyJSON) {
			t.Fatalf("%q: %v, but it is JSON", body, err)
		}
		r := rand.New(rand.NewPCG(seed, 0))
		var cuts []int
		for at, most := 0, 1+r.IntN(40); ; {
			if at += r.IntN(most + 1); at > len(body) || len(cuts) > 2*len(body) {
				break
			}
			cuts = append(cuts, at)
		}
		cutGot, cutErr := scanPieces(body, cuts...)
		if cutGot != got || fmt.Sprint(cutErr) != fmt.Sprint(err) {
			t.Fatalf("%q cut at %v: got %+v, %v; whole: %+v, %v", body, cuts, cutGot, cutErr, got, err)
		}
	})
}

// scanBody is a chat of n bytes whose texts are made of unit, with the model where it is asked for.
func scanBody(n int, first bool, unit string) []byte {
	model := `"model":"openai/gpt-4o"`
	message := `{"role":"user","content":"` + strings.Repeat(unit, 2000/len(unit)) + `"}`
	body := `"messages":[` + strings.Repeat(message+",", max(1, n/len(message))-1) + message + `],"stream":true`
	if first {
		return []byte("{" + model + "," + body + "}")
	}
	return []byte("{" + body + "," + model + "}")
}

func BenchmarkModelScan(b *testing.B) {
	const prose = `A model's answer to a question of some length. `
	dense := []byte(`{"input":[` + strings.Repeat(`{"id":12345,"x":[1.25,-3e5,true,null],"ok":"yes"},`, 2000) + `0],"model":"a/m"}`)
	var flat strings.Builder
	for i := range 8000 {
		fmt.Fprintf(&flat, `"m%d":%d,`, i, i*i)
	}
	var indented bytes.Buffer
	_ = json.Indent(&indented, dense, "", "  ")
	for _, c := range []struct {
		name string
		body []byte
	}{
		{"first/1KB", scanBody(1_000, true, prose[:20])},
		{"first/100KB", scanBody(100_000, true, prose)},
		{"last/100KB", scanBody(100_000, false, prose)},
		{"first/10MB", scanBody(10_000_000, true, prose)},
		{"last/10MB", scanBody(10_000_000, false, prose)},
		{"code/100KB", scanBody(100_000, false, `if x {\n\treturn \"y\"\n}\n`)},
		{"ascii/100KB", scanBody(100_000, false, `\u4f60\u597d\uff0c`)},
		{"base64/10MB", []byte(`{"image":"` + strings.Repeat("iVBORw0KGgo", 1_000_000) + `","model":"a/m"}`)},
		{"dense/100KB", dense},
		{"indented/200KB", indented.Bytes()},
		{"flat/100KB", []byte("{" + flat.String() + `"model":"a/m"}`)},
		{"tokens/100KB", []byte(`{"input":[` + strings.Repeat("1234,56789,7,890,", 6000) + `0],"model":"a/m"}`)},
		{"small", []byte(`{"model":"openai/gpt-4o","messages":[{"role":"user","content":"Hello, who are you?"}],"stream":true}`)},
	} {
		b.Run("scan/"+c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.body)))
			b.ReportAllocs()
			var s modelScan
			for b.Loop() {
				s = modelScan{wishes: true}
				for rest := c.body; len(rest) > 0; {
					n := min(16<<10, len(rest)) // an arena slot
					s.write(rest[:n])
					rest = rest[n:]
				}
				if span, err := s.end(); err != nil || !span.present {
					b.Fatal(span, err)
				}
			}
		})
		b.Run("json/"+c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.body)))
			b.ReportAllocs()
			for b.Loop() {
				var v struct{ Model string }
				if err := json.Unmarshal(c.body, &v); err != nil || v.Model == "" {
					b.Fatal(v, err)
				}
			}
		})
	}
}
