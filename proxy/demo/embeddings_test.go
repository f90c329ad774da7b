package demo_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/edge-proxy/edge/proxy/demo"
)

// embed returns the vectors of input, a JSON value.
func embed(t *testing.T, s *demo.Server, input, more string) (vectors [][]float32) {
	t.Helper()
	status, _, text := post(t, s, embeddingsPath, `{"model":"m","input":`+input+more+`}`)
	var got struct {
		Data []struct {
			Index     int
			Embedding json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != 200 {
		t.Fatalf("%d %.200s: %v", status, text, err)
	}
	for i, d := range got.Data {
		if d.Index != i {
			t.Errorf("index %d in place %d", d.Index, i)
		}
		var v []float32
		if d.Embedding[0] == '"' {
			var raw []byte // encoding/json decodes base64
			if err := json.Unmarshal(d.Embedding, &raw); err != nil {
				t.Fatal(err)
			}
			for ; len(raw) >= 4; raw = raw[4:] {
				v = append(v, math.Float32frombits(binary.LittleEndian.Uint32(raw)))
			}
		} else if err := json.Unmarshal(d.Embedding, &v); err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, v)
	}
	return vectors
}

func TestEmbeddings(t *testing.T) {
	s := start(t, demo.Config{})
	const texts = `["hello","world","hello"]`
	floats := embed(t, s, texts, `,"encoding_format":"float"`)
	coded := embed(t, s, texts, `,"encoding_format":"base64"`)
	if len(floats) != 3 || !slices.EqualFunc(floats, coded, slices.Equal) {
		t.Error("base64 and float differ")
	}
	if !slices.Equal(floats[0], floats[2]) || slices.Equal(floats[0], floats[1]) {
		t.Error("a vector must follow from its text")
	}
	dot := 0.0
	for i := range floats[0] {
		dot += float64(floats[0][i]) * float64(floats[1][i])
	}
	if math.Abs(dot) > 0.15 { // six sigma at 1536 dimensions
		t.Errorf("two texts have cosine %v, want about 0", dot)
	}
	if one := embed(t, s, `"hello"`, ""); !slices.Equal(one[0], floats[0]) {
		t.Error("a string and an array of it differ")
	}
	if tokens := embed(t, s, `[[15339],[14957,7]]`, ""); !slices.Equal(embed(t, s, `[14957,7]`, "")[0], tokens[1]) ||
		slices.Equal(tokens[0], tokens[1]) {
		t.Error("arrays of tokens")
	}
	for _, v := range append(floats, embed(t, s, texts, `,"dimensions":1`)[0], embed(t, s, texts, `,"dimensions":4096`)[0]) {
		sum := 0.0
		for _, f := range v {
			sum += float64(f) * float64(f)
		}
		if math.Abs(sum-1) > 1e-5 {
			t.Errorf("a vector of %d has length %v, want 1", len(v), math.Sqrt(sum))
		}
	}
	short := embed(t, s, `"hello"`, `,"dimensions":8`)[0]
	for i, f := range short {
		if want := floats[0][i] * (short[0] / floats[0][0]); math.Abs(float64(f-want)) > 1e-5 {
			t.Errorf("dimension %d is %v, want %v: the longer vector's head, scaled", i, f, want)
		}
	}
}

// TestEmbeddingsInPieces asks for more than is held back at once: 2048 vectors are 11 MB of base64.
func TestEmbeddingsInPieces(t *testing.T) {
	s := start(t, demo.Config{})
	inputs := make([]string, 2048)
	for i := range inputs {
		inputs[i] = base64.StdEncoding.EncodeToString([]byte{byte(i), byte(i >> 8)})
	}
	list, err := json.Marshal(inputs)
	if err != nil {
		t.Fatal(err)
	}
	got := embed(t, s, string(list), `,"dimensions":1024,"encoding_format":"base64"`)
	if len(got) != len(inputs) || len(got[2047]) != 1024 {
		t.Fatalf("%d vectors", len(got))
	}
	if last := embed(t, s, `"`+inputs[2047]+`"`, `,"dimensions":1024`); !slices.Equal(last[0], got[2047]) {
		t.Error("the last vector is another's")
	}
}
