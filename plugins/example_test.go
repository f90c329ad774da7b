package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

func ExamplePool() {
	quiet := slog.New(slog.DiscardHandler)
	module := source{funcs: []function{ // what a compiler would have made
		{name: "add", signature: "ii:i", code: asm(opGet, 0, opGet, 1, opAdd)},
		{name: "loop", signature: ":", code: asm(opLoop, empty, opBr, 0, opEnd)},
	}}.bytes()

	host, err := NewHost(HostConfig{Logger: quiet})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	plugin, err := host.Load(context.Background(), Config{
		Name: "sums", Module: module, Timeout: 20 * time.Millisecond, Logger: quiet,
	}, Binding{Required: []Signature{{Name: "loop"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	pool, err := NewPool(plugin, PoolConfig{Max: 4})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close() // closes the module too

	for _, name := range []string{"add", "loop"} {
		instance, err := pool.Take(context.Background())
		if err != nil {
			fmt.Println(err)
			return
		}
		stack := []uint64{2, 3}
		err = instance.Call(instance.Function(name), stack)
		if trap, ok := errors.AsType[*TrapError](err); ok {
			fmt.Println(trap.Plugin, trap.Function, trap.Reason)
		} else {
			fmt.Println(stack[0])
		}
		pool.Give(instance) // a dead one is replaced
	}
	// Output:
	// 5
	// sums loop timeout
}
