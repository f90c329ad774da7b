package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// wishPieces scans body for "fallbacks", too, cut at the given offsets.
func wishPieces(body []byte, cuts ...int) (modelSpan, fallbacksSpan, error) {
	s := modelScan{wishes: true}
	from := 0
	for _, cut := range append(cuts, len(body)) {
		piece := bytes.Clone(body[from:cut])
		s.write(piece)
		clear(piece)
		from = cut
	}
	model, err := s.end()
	return model, s.fallbacks(), err
}

// wishEveryWay scans body whole and in two pieces at every boundary, and fails if the answers differ.
func wishEveryWay(t *testing.T, body string) (modelSpan, fallbacksSpan, error) {
	t.Helper()
	model, wish, err := wishPieces([]byte(body))
	for cut := range len(body) + 1 {
		m, w, e := wishPieces([]byte(body), cut)
		if m != model || fmt.Sprint(e) != fmt.Sprint(err) || e == nil && w != wish {
			t.Fatalf("%q cut at %d: got %+v, %+v, %v; whole: %+v, %+v, %v", body, cut, m, w, e, model, wish, err)
		}
	}
	return model, wish, err
}

func TestModelScanFindsFallbacks(t *testing.T) {
	// value is what the member holds, left the body without it.
	f := func(body, value, left string) {
		t.Helper()
		_, wish, err := wishEveryWay(t, body)
		if err != nil || !wish.present {
			t.Fatalf("%s: got %+v, %v", body, wish, err)
		}
		if got := body[wish.value:wish.end]; got != value {
			t.Errorf("%s: got the value %s, want %s", body, got, value)
		}
		if got := body[:wish.from] + body[wish.to:]; got != left || !json.Valid([]byte(got)) {
			t.Errorf("%s: leaves %s, want %s", body, got, left)
		}
	}
	f(`{"fallbacks":[]}`, `[]`, `{}`)
	f(` { "fallbacks" : [ ] } `, `[ ]`, ` {  } `)
	f(`{"fallbacks":["a/b"],"model":"m"}`, `["a/b"]`, `{"model":"m"}`)
	f("{\n  \"fallbacks\" : [\"a/b\"] ,\n  \"model\": \"m\"\n}", `["a/b"]`, "{\n  \"model\": \"m\"\n}")
	f(`{"model":"m","fallbacks":["a/b"]}`, `["a/b"]`, `{"model":"m"}`)
	f("{\n  \"model\": \"m\",\n  \"fallbacks\": [\n \"a/b\"]\n}", "[\n \"a/b\"]", "{\n  \"model\": \"m\"\n}")
	f("{\n  \"model\": \"m\",\n  \"fallbacks\": [\"a/b\"],\n  \"n\": 1\n}", `["a/b"]`, "{\n  \"model\": \"m\",\n  \"n\": 1\n}")
	f(`{"a":{"b":1,"c":2},"fallbacks":[{"provider":"x","model":"y"},"a,b]"] , "n":[{"fallbacks":1}]}`,
		`[{"provider":"x","model":"y"},"a,b]"]`, `{"a":{"b":1,"c":2} , "n":[{"fallbacks":1}]}`)
	f(`{"fallbacks":[{"provider":"x","model":"y"},[[]]],"n":1,"m":{"x":1,"y":2}}`, `[{"provider":"x","model":"y"},[[]]]`, `{"n":1,"m":{"x":1,"y":2}}`)
	f(`{"fallbacks":[{"a":1,"b":2}]}`, `[{"a":1,"b":2}]`, `{}`)
	f(`{"f\u0061llback\u0073":[1],"x":2}`, `[1]`, `{"x":2}`)
	f(`{"fallback":1,"fallbacksx":2,"Fallbacks":3,"f":4,"":5,"fallbacks":[6]}`, `[6]`, `{"fallback":1,"fallbacksx":2,"Fallbacks":3,"f":4,"":5}`)

	none := func(body string) {
		t.Helper()
		if _, wish, err := wishEveryWay(t, body); err != nil || wish.present {
			t.Errorf("%s: got %+v, %v, want none", body, wish, err)
		}
	}
	none(`{}`)
	none(`{"a":{"fallbacks":["x"]},"b":[{"fallbacks":1}],"c":"fallbacks"}`)
	none(`{"fallbacks\u0000":1,"fallbackz":2,"mallbacks":3,"fodel":4}`)

	if model, err := scanPieces([]byte(`{"fallbacks":1,"model":"m","fallbacks":2}`)); err != nil || model.model != "m" {
		t.Errorf("without wishes: got %+v, %v", model, err)
	}
}

func TestModelScanRefusesFallbacks(t *testing.T) {
	f := func(body string, want error, text string) {
		t.Helper()
		if _, _, err := wishEveryWay(t, body); !errors.Is(err, want) || err.Error() != want.Error()+": "+text {
			t.Errorf("%s: got %v, want %v: %s", body, err, want, text)
		}
	}
	f(`{"fallbacks":"a/b"}`, errFallbacksType, "it begins with '\"' at byte 13")
	f(`{"fallbacks": null}`, errFallbacksType, "it begins with 'n' at byte 14")
	f(`{"fallbacks":{"a":[]}}`, errFallbacksType, "it begins with '{' at byte 13")
	f(`{"fallbacks":[],"fallbacks":[]}`, errFallbacksTwice, "its name ends at byte 26")
	f(`{"fallbacks":[],"model":"m","fallb\u0061cks":1}`, errFallbacksTwice, "its name ends at byte 43")
	f(`{"fallbacks":[1,}`, errBodyJSON, "unexpected '}' at byte 16")
	f(`{"fallbacks"}`, errBodyJSON, "unexpected '}' at byte 12")
	f(`{"fallbacks":[1],}`, errBodyJSON, "unexpected '}' at byte 17")
	f(`{"fallbacks":[1]`, errBodyJSON, "it ends too soon at byte 16")
}

func TestFallbacksAreDecoded(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		if got, err := decodeFallbacks([]byte(text)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
	f(`[]`)
	f(` [ ] `)
	f(`["a/b","c"]`, "a/b", "c")
	f(`["\u0061\/\"b\n", "é/😀\ud83d\ude00"]`, "a/\"b\n", "é/😀😀")
	f(`[{"provider":"a","model":"b/c"},{"model":"m","provider":"p"}, "x/y"]`, "a/b/c", "p/m", "x/y")
	f(`[{"prov\u0069der":"a"},{"model":"m"},{}]`, "a/", "/m", "/")
	f(`["1","2","3","4","5","6","7","8"]`, "1", "2", "3", "4", "5", "6", "7", "8")
	long := strings.Repeat("m", maxFallbackBytes)
	f(`["`+long+`"]`, long)

	refused := func(text, words string) {
		t.Helper()
		if got, err := decodeFallbacks([]byte(text)); !errors.Is(err, errFallbacks) || err.Error() != errFallbacks.Error()+": "+words {
			t.Errorf("%s: got %q, %v, want %s", text, got, err, words)
		}
	}
	const other = `has other members than "provider" and "model", each once and a string`
	for _, element := range []string{`1`, `1e999`, `null`, `true`, `[]`, `["a/b"]`} {
		refused(`["a/b",`+element+`]`, "element 1 is neither a string nor an object")
	}
	refused(`["1","2","3","4","5","6","7","8","9"]`, "it has more than 8 elements")
	refused(`["`+long+`m"]`, "element 0 is longer than 512 bytes")
	refused(`[{"provider":"a","model":"`+long[:511]+`"}]`, "element 0 is longer than 512 bytes")
	refused(`[{"provider":"a","model":"b","x":1}]`, "element 0 "+other)
	refused(`[{"Provider":"a","model":"b"}]`, "element 0 "+other)
	refused(`[{"provider":"a","provider":"b"}]`, "element 0 "+other)
	refused(`[{"provider":"a","prov\u0069der":"b"}]`, "element 0 "+other)
	refused(`["a/b",{"provider":1,"model":"b"}]`, "element 1 "+other)
	refused(`[{"provider":{"model":"b"}}]`, "element 0 "+other)
	refused(`["\ud800"]`, "element 0 is not valid Unicode")
	refused("[\"a/\xff\"]", "it is not valid UTF-8")
}

// members are those of an object, as encoding/json reads them, without those called fallbacks.
func members(t *testing.T, body []byte) (others []string, fallbacks []json.RawMessage) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if name == nameFallbacks {
			fallbacks = append(fallbacks, raw)
		} else {
			others = append(others, fmt.Sprintf("%q:%s", name, raw))
		}
	}
	return others, fallbacks
}

// wishAgrees checks what the scan finds in body against encoding/json, and reports whether there were fallbacks.
func wishAgrees(t *testing.T, body []byte, cut int) (found bool) {
	t.Helper()
	model, wish, err := wishPieces(body, cut)
	plain, plainErr := scanPieces(body)
	if plainErr != nil {
		if err == nil {
			t.Fatalf("%q: got %+v, but without fallbacks %v", body, wish, plainErr)
		}
		return false
	}
	others, fallbacks := members(t, body)
	twice, wrong := len(fallbacks) > 1, len(fallbacks) > 0 && fallbacks[0][0] != '['
	if (twice || wrong) != (err != nil) || err != nil && !errors.Is(err, errFallbacksTwice) && !errors.Is(err, errFallbacksType) {
		t.Fatalf("%q: got %v with %d fallbacks", body, err, len(fallbacks))
	}
	if err != nil {
		return false
	}
	if model != plain || wish.present != (len(fallbacks) == 1) {
		t.Fatalf("%q: got %+v, %+v, want %+v and %d fallbacks", body, model, wish, plain, len(fallbacks))
	}
	if !wish.present {
		return false
	}
	if got := body[wish.value:wish.end]; !bytes.Equal(got, fallbacks[0]) {
		t.Fatalf("%q: got the value %s, want %s", body, got, fallbacks[0])
	}
	left := append(bytes.Clone(body[:wish.from]), body[wish.to:]...)
	if rest, none := members(t, left); !json.Valid(left) || !slices.Equal(rest, others) || len(none) > 0 {
		t.Fatalf("%q: leaves %q", body, left)
	}
	if list, err := decodeFallbacks(body[wish.value:wish.end]); err == nil {
		var want []any
		if json.Unmarshal(fallbacks[0], &want) != nil || len(list) != len(want) || len(list) > maxFallbacks {
			t.Fatalf("%s: got %q", fallbacks[0], list)
		}
		for i, one := range list {
			pair, _ := want[i].(map[string]any)
			if text, ok := want[i].(string); ok && text != one || !ok && one != fmt.Sprintf("%s/%s", or(pair["provider"]), or(pair["model"])) {
				t.Fatalf("%s: got %q", fallbacks[0], list)
			}
		}
	} else if !errors.Is(err, errFallbacks) {
		t.Fatalf("%s: %v", fallbacks[0], err)
	}
	return true
}

func or(v any) string {
	s, _ := v.(string)
	return s
}

func FuzzFallbacks(f *testing.F) {
	for _, body := range []string{
		`{"fallbacks":["a/b"],"model":"m"}`, `{"model":"a/m","fallbacks":[{"provider":"a","model":"b"}]}`, `{"fallbacks":[]}`,
		` { "a" : {"b":1,"c":2} , "fall\u0062acks" : [ "x" , [ {"y":1,"z":2} ] ] , "n" : 1 } `, `{"fallbacks":1}`,
		`{"fallbacks":["\ud800","\u0061\/b"],"fallbacks":[]}`, `{"fallbacks":["1","2","3","4","5","6","7","8","9"]}`, "{\"fallbacks\":[\"\xff\"]}",
	} {
		f.Add([]byte(body), uint(len(body)/2))
	}
	f.Fuzz(func(t *testing.T, body []byte, cut uint) { wishAgrees(t, body, int(cut%uint(len(body)+1))) })
}

func TestFallbacksAgreeWithEncodingJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	found := 0
	for range 20_000 {
		body := scanGrow(r, 0)
		for _, name := range []string{`"mode"`, `"models"`, `"a"`} { // names that the grammar here knows
			body = strings.Replace(body, name, []string{name, `"fallbacks"`, `"f\u0061llbacks"`}[r.IntN(3)], 1)
		}
		if wishAgrees(t, []byte(body), r.IntN(len(body)+1)) {
			found++
		}
	}
	if found < 500 {
		t.Errorf("%d bodies with fallbacks prove little", found)
	}
}
