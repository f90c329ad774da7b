// A guest for the tests of package meter: it does what Go programs do, and returns a sum of what came out.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
)

func main() {}

//go:wasmexport fib
func fib(n int32) int32 {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

//go:wasmexport deep
func deep(n int32) int32 {
	if n == 0 {
		return 0
	}
	return deep(n-1) + 1
}

//go:wasmexport spin
func spin() {
	for {
	}
}

const document = `{"id":7,"model":"a","tags":["x","y","z"],"nested":{"a":[1,2.5,true,null,"\u00e9"],"b":{"c":{"d":[[],[[]]]}}},
"messages":[{"role":"user","content":"hello there, how are you today?"},{"role":"assistant","content":"fine"}]}`

//go:wasmexport json_walk
func jsonWalk(rounds int32) int64 {
	h := fnv.New64a()
	for range rounds {
		var v map[string]any
		if err := json.Unmarshal([]byte(document), &v); err != nil {
			panic(err)
		}
		out, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		h.Write(out)
	}
	return int64(h.Sum64())
}

var word = regexp.MustCompile(`(?i)\b([a-z]+)(-[a-z]+)*\b`)

// library walks through much of the standard library: maps, sorting, formatting, closures, panics.
//
//go:wasmexport library
func library(rounds int32) int64 {
	h := fnv.New64a()
	for i := range rounds {
		counts := map[string]int{}
		for _, w := range word.FindAllString(strings.Repeat("the quick-brown fox jumps over the lazy dog ", 5), -1) {
			counts[w] += int(i)
		}
		keys := make([]string, 0, len(counts))
		for k := range counts {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, strings.Compare)
		for _, k := range keys {
			fmt.Fprintf(h, "%s=%d %v %x;", k, counts[k], []float64{1.5, float64(i)}, k)
		}
		h.Write(bytes.Repeat([]byte{byte(i)}, 70_000))
		fmt.Fprint(h, recovered(int(i)))
	}
	return int64(h.Sum64())
}

func recovered(i int) (err error) {
	defer func() { err = errors.Join(err, fmt.Errorf("recovered: %v", recover())) }()
	var list []int
	return fmt.Errorf("element %d", list[i])
}

// goroutines passes numbers through a chain of channels, and collects garbage meanwhile.
//
//go:wasmexport goroutines
func goroutines(n int32) int64 {
	source := make(chan int64)
	end := source
	for range 20 {
		next := make(chan int64)
		go func(in chan int64) {
			defer close(next)
			for v := range in {
				next <- v*3 + 1
			}
		}(end)
		end = next
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(source)
		for i := range n {
			source <- int64(i)
			_ = make([]byte, 10_000)
		}
	})
	runtime.GC()
	var sum int64
	for v := range end {
		sum = sum*31 + v
	}
	wg.Wait()
	return sum
}

// nested decodes n arrays within arrays.
//
//go:wasmexport nested
func nested(n int32) int32 {
	var v any
	text := strings.Repeat("[", int(n)) + strings.Repeat("]", int(n))
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(err)
	}
	depth := int32(0)
	for list, ok := v.([]any); ok; depth++ {
		if len(list) == 0 {
			return depth + 1
		}
		list, ok = list[0].([]any)
	}
	return depth
}

//go:wasmexport quiet
func quiet() {}
