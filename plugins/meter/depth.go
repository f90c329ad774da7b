package meter

// markCounted chooses the functions that take room while they run, so that no recursion is endless: every way for the
// stack to grow without end must lead through one of them again and again.
//
//	D1  An endless chain of calls repeats a function. If it repeats a call of a function that the code does not name,
//	    the caller is counted; else it repeats a cycle of direct calls, and each of those has a counted function.
//	D2  Room taken is given back at every exit: at the end, by return and branches to the function's label, before a
//	    tail call. An exception skips exits, so a function that may catch one sets the room to what it was.
//	D3  A tail call gives back its caller's room with its caller's frame. So where there are tail calls, a counted
//	    function of a cycle may have left by one: there, every function with a call that is no tail call is counted.
//	    An endless chain repeats one of those calls, as tail calls alone do not make the stack grow.
func (m *module) markCounted() {
	for i := range m.functions {
		f := &m.functions[i]
		f.counted = f.indirect || f.tries || m.tailCalls && f.calls
	}
	if !m.tailCalls {
		m.markHeads()
	}
}

// markHeads marks a function of every cycle of direct calls that has none yet: it walks along the calls and marks
// those that lead back to a function on the walk's own path.
func (m *module) markHeads() {
	const (
		fresh = iota
		onPath
		done
	)
	type step struct {
		function uint32
		next     int // index in callees
	}
	state := make([]byte, len(m.functions))
	var path []step
	enter := func(i uint32) {
		state[i] = onPath
		path = append(path, step{i, m.functions[i].callees.begin})
	}
	for root := range m.functions {
		if state[root] != fresh || m.functions[root].counted {
			continue
		}
		for enter(uint32(root)); len(path) > 0; {
			top := &path[len(path)-1]
			if top.next == m.functions[top.function].callees.end {
				state[top.function] = done
				path = path[:len(path)-1]
				continue
			}
			callee := m.callees[top.next]
			top.next++
			switch {
			case state[callee] == onPath:
				m.functions[callee].counted = true
			case state[callee] == fresh && !m.functions[callee].counted:
				enter(callee)
			}
		}
	}
}
