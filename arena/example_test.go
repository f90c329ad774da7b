package arena_test

import (
	"fmt"

	"github.com/edge-proxy/edge/arena"
)

func ExampleClass() {
	blocks := arena.NewClass[[4096]byte](2) // 8 KiB, allocated now
	connection := uint32(7)

	head := blocks.Take(connection)
	n := copy(head.P()[:], "GET / HTTP/1.1")
	fmt.Printf("%s\n", head.P()[:n])

	body, more := blocks.Take(connection), blocks.Take(connection) // one more than there are
	fmt.Printf("%+v\n", blocks.Stats())

	more.Give()
	body.Give()
	head.Give()
	fmt.Println(head.P() == nil)
	fmt.Printf("%+v\n", blocks.Stats())
	// Output:
	// GET / HTTP/1.1
	// {Slots:2 InUse:2 OverflowsInUse:1 Overflows:1 SlotBytes:4096}
	// true
	// {Slots:2 InUse:0 OverflowsInUse:0 Overflows:1 SlotBytes:4096}
}
