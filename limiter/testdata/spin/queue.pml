/*
 * A line of permits: the packed word of line.go and the queue of segments of queue.go and segment.go, one atomic step of
 * the Go code at a time. README.md says what is modelled, what is not, and how to run it.
 *
 * Names are those of the Go code. A loop that loads a word, decides by that word alone and swaps it is one step here:
 * a swap that fails has changed nothing, and one that succeeds decided by the value that it replaced.
 */

#ifndef ACQUIRERS
#define ACQUIRERS  3
#endif
#ifndef CANCELLERS
#define CANCELLERS 1	/* the first so many acquirers may give up, at any time or never */
#endif
#ifndef RELEASERS
#define RELEASERS  2	/* hold a permit at the beginning, so at most LIMIT */
#endif
#ifndef START
#define START      1	/* the first ticket; the cells before it are of waits that ended */
#endif
#define LIMIT      2
#define CELLS      2	/* of a segment */
#define SEGMENTS   ((START + ACQUIRERS - 1) / CELLS + 2)

#define EMPTY      0	/* what a cell holds */
#define GRANTED    1
#define CANCELLED  2
#define WAITER     3	/* plus the acquirer's number */

#define NOTHING    0	/* what an acquirer has to do next */
#define RELEASE    1
#define RESUME     2

byte held = RELEASERS;	/* the word */
byte waiting;

byte enq = START;	/* the queue; a segment is its number, and next is the number after it */
byte deq = START;
byte head;
byte tail;
bool appended[SEGMENTS];	/* next is not nil */
byte pointers[SEGMENTS];	/* of refs */
byte cancelled[SEGMENTS];
byte cell[SEGMENTS * CELLS];
bool signal[ACQUIRERS];	/* the waiters' channels */

byte used = RELEASERS;	/* permits whose holder may work: neither on their way nor given back */
byte ended;	/* processes that came to their end */

#define noRefs(s)	(pointers[s] == 0 && cancelled[s] == CELLS)

/* S1, and at most LIMIT at work. */
#define checkWord()	assert(waiting == 0 || held >= LIMIT); assert(used <= held && held <= LIMIT)

/* A segment without refs is never the last. That makes Go's test for a dead segment, which looks at refs and then at
 * next, the one step noRefs. */
#define checkLast(s)	assert(!noRefs(s) || appended[s])

inline find(end, s, id, e) {
	do
	:: s < id || noRefs(s) ->
		appended[s] = true;
		s++;
		assert(s < SEGMENTS)
	:: else ->
		/* moveForward */
		e = end;
		if
		:: e >= s -> break
		:: else
		fi;
		if
		:: atomic { !noRefs(s) -> pointers[s]++ };
			if
			:: atomic { end == e -> end = s };
				atomic { pointers[e]--; checkLast(e) };
				break
			:: atomic { end != e -> skip };
				atomic { pointers[s]--; checkLast(s) }
			fi
		:: atomic { noRefs(s) -> skip }
		fi
	od
}

inline place(me, s, t, e, got) {
#ifndef TAIL_AFTER_TICKET
	s = tail;
#endif
	atomic { t = enq; enq++ };
#ifdef TAIL_AFTER_TICKET
	s = tail;
#endif
	if
	:: s != t / CELLS ->
		find(tail, s, t / CELLS, e);
		assert(s == t / CELLS)
	:: else
	fi;
	atomic {
		if
		:: cell[t] == EMPTY -> cell[t] = WAITER + me
		:: else -> assert(cell[t] == GRANTED); got = true
		fi
	}
}

inline resume(s, t, e, v) {
	do
	:: s = head;
		atomic { t = deq; deq++ };
		if
		:: s != t / CELLS -> find(head, s, t / CELLS, e)
		:: else
		fi;
		if
		:: s != t / CELLS ->
			atomic {
				if
				:: deq == t + 1 -> deq = s * CELLS
				:: else
				fi
			}
		:: else ->
			atomic {
				v = cell[t];
				assert(v != GRANTED);
				if
				:: v != CANCELLED -> cell[t] = GRANTED
				:: else
				fi
			};
			if
			:: v >= WAITER ->
				/* S5: the send does not block. */
				atomic { assert(!signal[v - WAITER]); signal[v - WAITER] = true };
				break
			:: v == EMPTY -> break
			:: v == CANCELLED
			fi
		fi
	od
}

/* release sets duty to RESUME when the permit is handed over. */
inline release(duty) {
	assert(held > 0);
	if
	:: waiting > 0 && held <= LIMIT -> waiting--; duty = RESUME
	:: else -> held--; duty = NOTHING
	fi;
	checkWord()
}

inline receive(me) { atomic { signal[me] -> signal[me] = false } }

/* cancel marks t's cell, or sets lost. */
inline cancel(me, t, lost) {
	atomic {
		if
		:: cell[t] == WAITER + me -> cell[t] = CANCELLED; lost = false
		:: else -> lost = true
		fi
	};
	if
	:: !lost -> atomic { cancelled[t / CELLS]++; checkLast(t / CELLS) }
	:: else
	fi
}

inline giveUp(me, t, lost, duty) {
#ifdef CELL_BEFORE_COUNT
	cancel(me, t, lost);
	if
	:: lost -> receive(me); duty = RELEASE
	:: else ->
		atomic {
			if
			:: waiting > 0 -> waiting--
			:: else
			fi
		}
	fi
#else
	if
	:: atomic { waiting == 0 -> skip };
		receive(me);
		duty = RELEASE
	:: atomic { waiting > 0 -> waiting-- };
		cancel(me, t, lost);
		if
		:: lost ->
			receive(me);
#ifndef SIGNAL_KEPT
			duty = RESUME
#endif
		:: else
		fi
	fi
#endif
}

proctype acquirer(byte me) {
	byte s, t, e, v, duty;
	bool got, waits, lost;

	/* enter */
	atomic {
		if
		:: held < LIMIT -> held++; used++; got = true
		:: else -> waiting++; waits = true
		fi;
		checkWord()
	};
	if
	:: waits ->
		place(me, s, t, e, got);
		if
		:: !got ->
			if
			:: atomic { signal[me] -> signal[me] = false; got = true }
			:: me < CANCELLERS -> giveUp(me, t, lost, duty)
			fi
		:: else
		fi;
		/* S5: the wait has ended. */
		atomic {
			assert(!signal[me] && cell[t] != WAITER + me);
			if
			:: got -> used++
			:: else
			fi;
			checkWord()
		}
	:: else
	fi;
	if
	:: atomic { got -> used--; release(duty) }
	:: atomic { !got && duty == RELEASE -> release(duty) }
	:: atomic { !got && duty != RELEASE -> skip }
	fi;
	if
	:: duty == RESUME -> resume(s, t, e, v)
	:: else
	fi;
	ended++
}

proctype releaser() {
	byte s, t, e, v, duty;

	atomic { used--; release(duty) };
	if
	:: duty == RESUME -> resume(s, t, e, v)
	:: else
	fi;
	ended++
}

/* Whoever sleeps for ever leaves an end state that is not valid, which pan reports: all give back what they get, so a
 * permit is free then. The books at the end show a permit that is stranded. */
init {
	byte i;
	atomic {
		pointers[0] = 2;
		for (i : 0 .. START - 1) { cell[i] = GRANTED };
		for (i : 0 .. ACQUIRERS - 1) { run acquirer(i) };
		for (i : 1 .. RELEASERS) { run releaser() };
		i = 0
	};
	atomic {
		ended == ACQUIRERS + RELEASERS ->
		assert(held == 0 && waiting == 0 && used == 0);
		for (i : 0 .. ACQUIRERS - 1) { assert(!signal[i]) };
		for (i : START .. SEGMENTS * CELLS - 1) {
			assert((i < enq -> (cell[i] == GRANTED || cell[i] == CANCELLED) : cell[i] == EMPTY))
		}
	}
}
