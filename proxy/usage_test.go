package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/arena"
)

// usageReader is a scanner with what it needs, and no more.
func usageReader() *exchange {
	x := &exchange{arrival: arrival{p: &Proxy{bodies: arena.NewClass[bodyBlock](1)}}}
	x.usage.state = usageReading
	x.usage.ask = new(tokenStats).of([]string{"gpt-4o", "gpt-4", "gemini-2.5"})
	x.usage.model = true
	return x
}

// usageOf is what the scanner makes of an answer that comes in pieces.
func usageOf(t *testing.T, cohere bool, pieces ...[]byte) (string, *exchange) {
	t.Helper()
	x := usageReader()
	x.usage.cohere = cohere
	for _, piece := range pieces {
		x.usage.see(x, piece)
	}
	x.usage.drop()
	if in := x.p.bodies.Stats().InUse; in != 0 {
		t.Errorf("%d slots are not given back", in)
	}
	counts, known := x.usage.counts.tokens()
	if !known {
		return "none", x
	}
	return fmt.Sprintf("%d+%d %d", counts[tokensInput], counts[tokensCachedInput], counts[tokensOutput]), x
}

// What each API says, from its reference. Wanted are input, what was cached, and output.
var usageAnswers = []struct{ name, answer, want string }{
	{"openai", `{"id":"c","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"a \"usage\":{\"prompt_tokens\":1} b"}}],"usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29, "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 3, "cached_tokens": 99}}}`, "15+4 10"},
	{"openai embeddings", `{"object":"list","data":[{"embedding":[0.1,-0.2]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}`, "8+0 0"},
	{"openai stream", "data: {\"choices\":[],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}}\n\ndata: [DONE]\n\n", "5+0 7"},
	{"openai responses", "event: response.created\ndata: {\"response\":{\"usage\":null}}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":36,\"input_tokens_details\":{\"cached_tokens\":30},\"output_tokens\":87,\"output_tokens_details\":{\"reasoning_tokens\":9},\"total_tokens\":123}}}\n\n", "6+30 87"},
	{"anthropic", `{"type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":100,"cache_creation":{"ephemeral_5m_input_tokens":5},"output_tokens":6,"service_tier":"standard"}}`, "15+100 6"},
	{"anthropic stream", "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\nevent: message_delta\ndata: {\"usage\":{\"output_tokens\":15}}\n\n", "25+0 15"},
	{"gemini", `{"candidates":[],"usageMetadata":{"promptTokenCount":20,"candidatesTokenCount":7,"thoughtsTokenCount":11,"cachedContentTokenCount":8,"toolUsePromptTokenCount":2,"totalTokenCount":40,"promptTokensDetails":[{"modality":"TEXT","tokenCount":20}]},"modelVersion":"gemini-2.5-flash"}`, "14+8 18"},
	{"cohere 2", `{"id":"c","usage":{"billed_units":{"input_tokens":5,"output_tokens":418},"tokens":{"input_tokens":71,"output_tokens":420}}}`, "71+0 420"},
	{"cohere 1", `{"text":"x","meta":{"api_version":{"version":"1"},"billed_units":{"input_tokens":4,"output_tokens":3},"tokens":{"input_tokens":70,"output_tokens":3}}}`, "70+0 3"},
	{"cohere embed", `{"embeddings":{},"meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":4}}}`, "4+0 0"},
	{"groq stream", "data: {\"x_groq\":{\"id\":\"r\",\"usage\":{\"queue_time\":0.01,\"prompt_tokens\":3,\"prompt_time\":1e-3,\"completion_tokens\":4}}}\n\n", "3+0 4"},
	{"deepseek", `{"usage":{"prompt_tokens":30,"completion_tokens":2,"prompt_cache_hit_tokens":20,"prompt_cache_miss_tokens":10}}`, "10+20 2"},
	{"bedrock", `{"output":{},"usage":{"inputTokens":30,"outputTokens":628,"totalTokens":658,"cacheReadInputTokens":5,"cacheWriteInputTokens":1}}`, "31+5 628"},
	{"a gateway's both", `{"usage":{"prompt_tokens":110,"completion_tokens":1,"cache_read_input_tokens":100,"cache_creation_input_tokens":5}}`, "10+100 1"},
	{"more cached than there is", `{"usage":{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":5}}}`, "0+1 1"},
	{"white space", "{\"usage\" \r\n\t: \n{ \"prompt_tokens\" :\n 3 , \"completion_tokens\":4\n} }", "3+0 4"},
	{"members of no use", `{"usage":{"a\"}":[1,{"prompt_tokens":9},"x"],"prompt_tokens":3,"b":{"completion_tokens":9},"completion_tokens":4,"c":[[]]}}`, "3+0 4"},

	{"none", `{"a":1}`, "none"},
	{"another kind", `{"usage":{"type":"duration","seconds":3}}`, "none"},
	{"no object", `{"usage":5,"x":"usage","usage":["prompt_tokens",3],"usage":"{"}`, "none"},
	{"negative, fractional, huge, text", `{"usage":{"prompt_tokens":-3,"completion_tokens":1.5,"input_tokens":1000000001,"output_tokens":"7","promptTokenCount":1e3,"billed_units":{"input_tokens":99999999999999999999}}}`, "none"},
	{"not a number", `{"usage":{"prompt_tokens":NaN,"completion_tokens":1}}`, "none"},
	{"the most", `{"usage":{"prompt_tokens":1000000000,"completion_tokens":0}}`, "1000000000+0 0"},
	{"cut off", `{"usage":{"prompt_tokens":3,"completion_tokens":4`, "none"},
	{"in a string", `{"a":"\"usage","b":"\"usage\":{\"prompt_tokens\":3}","c \"usage":{"prompt_tokens":3}}`, "none"},
	{"not quite", `{"usages":{"prompt_tokens":3},"usageMeta":{"prompt_tokens":3},"my usage":{"prompt_tokens":3},"usageMetadataX":{"prompt_tokens":3}}`, "none"},
	{"crossed", `{"usage":{"a":[}],"prompt_tokens":3}}`, "none"},
	{"deep", `{"usage":{"a":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `,"prompt_tokens":3}}`, "none"},
	{"almost too deep", `{"usage":{"a":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `,"prompt_tokens":3}}`, "3+0 0"},
	{"long", `{"usage":{"a":"` + strings.Repeat("x", maxUsage-len(`"usage":{"a":"","prompt_tokens":3}`)) + `","prompt_tokens":3}}`, "3+0 0"},
	{"too long", `{"usage":{"a":"` + strings.Repeat("x", maxUsage+1-len(`"usage":{"a":"","prompt_tokens":3}`)) + `","prompt_tokens":3}}`, "none"},
	{"one too long, another behind it", `{"usage":{"a":"` + strings.Repeat("x", 3*maxUsage) + `"},"usage":{"prompt_tokens":3}}`, "3+0 0"},
}

func TestUsageOfEachAPIHoweverItIsCut(t *testing.T) {
	for _, c := range usageAnswers {
		answer, cohere := []byte(c.answer), strings.HasPrefix(c.name, "cohere")
		f := func(how string, pieces ...[]byte) {
			t.Helper()
			if got, _ := usageOf(t, cohere, pieces...); got != c.want {
				t.Errorf("%s, %s: got %s, want %s", c.name, how, got, c.want)
			}
		}
		f("whole", answer)
		for at := range answer {
			if t.Failed() {
				break
			}
			f(fmt.Sprintf("cut at %d", at), answer[:at], answer[at:])
			end := min(at+3, len(answer))
			f(fmt.Sprintf("cut at %d and %d", at, end), answer[:at], answer[at:end], answer[end:])
		}
		bytewise := make([][]byte, len(answer))
		for i := range answer {
			bytewise[i] = answer[i : i+1]
		}
		f("in bytes", bytewise...)
	}
}

// The model of an answer counts when the request's is not known: the first one, with the longest family that fits.
func TestUsageFamilyIsTheLongestThatFits(t *testing.T) {
	f := func(answer, want string) {
		t.Helper()
		for at := range len(answer) {
			_, x := usageOf(t, false, []byte(answer[:at]), []byte(answer[at:]))
			got := "none"
			for _, family := range x.usage.ask {
				if family.counts == x.usage.family {
					got = family.prefix
				}
			}
			if got != want {
				t.Errorf("%s cut at %d: got %q, want %q", answer, at, got, want)
			}
		}
	}
	f(`{"model":"gpt-4o-mini","model":"gpt-4"}`, "gpt-4o")
	f(`{"model": "gpt-4"}`, "gpt-4")
	f(`{"model":"gpt-3.5"}`, "")
	f(`{"modelVersion" :"gemini-2.5-flash"}`, "gemini-2.5")
	f(`{"model":null,"x":"model"}`, "none")
	f(`{"model":"gpt-4`, "none")
}

func TestUsageAllocatesNothing(t *testing.T) {
	x := usageReader()
	piece := []byte(usageAnswers[0].answer)
	if n := testing.AllocsPerRun(100, func() {
		x.usage.model = true
		for _, cut := range []int{5, 300, len(piece) - 100} {
			x.usage.see(x, piece[:cut])
			x.usage.see(x, piece[cut:])
		}
		x.usage.drop()
	}); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

// FuzzUsage compares the scanner with encoding/json, on answers cut at two places.
func FuzzUsage(f *testing.F) {
	for _, c := range usageAnswers {
		f.Add([]byte(c.answer), uint16(len(c.answer)/2), uint16(len(c.answer)-3))
	}
	f.Fuzz(func(t *testing.T, answer []byte, first, second uint16) {
		i := min(int(first), len(answer))
		j := min(max(int(second), i), len(answer))
		got, _ := usageOf(t, false, answer[:i], answer[i:j], answer[j:])
		if whole, _ := usageOf(t, false, answer); len(answer) <= maxUsage && got != whole {
			t.Fatalf("cut at %d and %d: got %s, whole %s", i, j, got, whole)
		}
		if want, ok := usageByJSON(answer); ok && got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

// usageByJSON reads an answer with encoding/json. It reports false for what the scanner does not try to read as that does:
// escaped keys, values beyond its bounds, and what is no JSON.
func usageByJSON(answer []byte) (string, bool) {
	if len(answer) > maxUsage || !json.Valid(answer) || bytes.ContainsRune(answer, '\\') {
		return "", false
	}
	var counts usageCounts
	ok := true
	var walk func(d *json.Decoder, within *usageCounts, depth int, parent string)
	walk = func(d *json.Decoder, within *usageCounts, depth int, parent string) {
		token, err := d.Token()
		if err != nil {
			ok = ok && errors.Is(err, io.EOF)
			return
		}
		open, _ := token.(json.Delim)
		for open != 0 && d.More() {
			if depth == maxUsageDepth {
				ok = false
			}
			if open == '[' {
				walk(d, within, depth+1, "")
				continue
			}
			token, _ := d.Token()
			key := token.(string)
			var value json.RawMessage
			if d.Decode(&value) != nil {
				ok = false
				return
			}
			inner := json.NewDecoder(bytes.NewReader(value))
			inner.UseNumber()
			if within == nil && (key == "usage" || key == "usageMetadata") && value[0] == '{' {
				var of usageCounts
				walk(inner, &of, 1, "")
				counts.merge(&of)
				continue
			}
			noteByJSON(within, depth, parent, key, value)
			above := key
			if depth != 1 {
				above = ""
			}
			walk(inner, within, depth+1, above)
		}
		if open != 0 {
			_, _ = d.Token()
		}
	}
	d := json.NewDecoder(bytes.NewReader(answer))
	d.UseNumber()
	walk(d, nil, 1, "")
	tokens, known := counts.tokens()
	if !known {
		return "none", ok
	}
	return fmt.Sprintf("%d+%d %d", tokens[tokensInput], tokens[tokensCachedInput], tokens[tokensOutput]), ok
}

func noteByJSON(within *usageCounts, depth int, parent, key string, value json.RawMessage) {
	var n uint32
	if within != nil && value[0] != '-' && json.Unmarshal(value, &n) == nil && value[0] != 'n' && n <= maxUsageTokens {
		within.note(depth, []byte(parent), []byte(key), n)
	}
}

// BenchmarkUsage is the scanner against a copy of the same pieces without it. W2 and W4a are the answers of docs/bench.md.
func BenchmarkUsage(b *testing.B) {
	chat := usageAnswers[0].answer
	event := "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("word ", 7) + "\"}}]}\n\n"
	for name, pieces := range map[string][]string{
		"W2":            {strings.Repeat("x", 1024-len(chat)) + chat},
		"W2 without":    {strings.Repeat(`{"content":"quick unusual output, much unused"},`, 22)[:1024]},
		"W4a":           strings.Split(strings.TrimSuffix(strings.Repeat(event+"\x00", 50), "\x00"), "\x00"),
		"16 KiB vector": {strings.Repeat("-0.0123456,", 1490)},
	} {
		total := 0
		for _, piece := range pieces {
			total += len(piece)
		}
		x := usageReader()
		var to [16 << 10]byte
		for _, how := range []string{"copy", "copy and scan", "copy, scan for the model too"} {
			b.Run(name+"/"+how, func(b *testing.B) {
				b.SetBytes(int64(total))
				b.ReportAllocs()
				all := make([][]byte, len(pieces))
				for i, piece := range pieces {
					all[i] = []byte(piece)
				}
				for b.Loop() {
					x.usage.model = how == "copy, scan for the model too"
					for _, piece := range all {
						copy(to[:], piece)
						if how != "copy" {
							x.usage.see(x, piece)
						}
					}
				}
			})
		}
	}
}
