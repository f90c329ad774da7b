/*
 * The two words of a gate's state, now and aside, one atomic step of the Go code at a time: what happens to those who wait
 * for a permit when a Resize lets fewer be in flight than are. README.md says what is modelled, what is not, and how to
 * run it.
 *
 * The queue is taken for what queue.pml shows it to be: signals go to waiters, one each, and a canceller whose count was
 * taken back leaves the line or passes its signal on. So a line is two numbers: who stands in it, and signals under way.
 *
 * A loop that loads a word, decides by that word alone and swaps it is one step here. Where a decision rests on both words,
 * each load is a step, and so is the swap.
 */

#ifndef ACQUIRERS
#define ACQUIRERS  2
#endif
#ifndef CANCELLERS
#define CANCELLERS 1	/* the first so many acquirers may give up, at any time or never */
#endif
#ifndef HOLDERS
#define HOLDERS    1	/* hold a permit at the beginning, and give it back */
#endif
#ifndef CLOSES
#define CLOSES     0	/* 1: the owner may close the gate instead of its last Resize */
#endif
#define MOST       2	/* the largest limit */

/* now: the permit room plus ZERO, and the bits of now. What a CAS compares is all of it. */
#define ZERO       6
byte room = ZERO + MOST - HOLDERS;
bool marked;
bool closed;
byte gen;	/* counts to 2 only: S14 says that it is enough */

/* aside. The version counts up and never returns, so the model needs as many as there are Resizes. */
byte version;
bool frozen = true;
byte count;

byte limit = MOST;	/* of who resizes */
byte settling;
byte line;	/* who stands in the line of permits, or is about to */
byte grants;	/* signals under way */
byte shuts;
byte used = HOLDERS;	/* permits whose holder may work */
byte ended;

#define unsettled	(marked && room >= ZERO && !closed)
#define sameNow		(room == sRoom && marked == sMarked && closed == sClosed && gen == sGen)
#define sameAside	(version == aVersion && frozen == aFrozen && count == aCount)
#define loadNow		sRoom = room; sMarked = marked; sClosed = closed; sGen = gen
#define loadAside	aVersion = version; aFrozen = frozen; aCount = count
#define forgetNow	sRoom = 0; sMarked = false; sClosed = false; sGen = 0
#define forgetAside	aVersion = 0; aFrozen = false; aCount = 0

#define inFlight	(marked || room >= ZERO -> limit + ZERO - room : limit)
#define waitingNow	(room < ZERO -> ZERO - room : 0)

/* Permits at work and under way are in flight, and never more than the largest limit (S3). S2. S13: a settled word's aside
 * is open. */
#define check()		assert(closed || used + grants == inFlight && inFlight <= MOST); \
			assert(closed || line == grants + (marked -> count : waitingNow)); \
			assert(!marked || closed || room >= ZERO || !frozen)

/* aside, then now, then the swap of one of them, by what both were. */
inline settle() {
	settling++;
	do
	:: atomic { loadAside };
		atomic {
			if
			:: !unsettled -> forgetAside; break
			:: unsettled && aFrozen -> loadNow
			:: unsettled && !aFrozen
			fi
		};
		if
		:: !aFrozen ->
			atomic {
				if
				:: sameAside -> frozen = true
				:: else
				fi;
				check();
				forgetAside
			}
		:: else ->
			second = true;
#ifndef NO_SECOND_LOOK
			second = sameAside;
#endif
			atomic {
				if
				:: second && sameNow ->
					marked = false;
					room = room - aCount;
					grants = grants + (aCount < sRoom - ZERO -> aCount : sRoom - ZERO);
					check();
					second = false; forgetAside; forgetNow;
					break
				:: else -> second = false; forgetAside; forgetNow
				fi
			}
		fi
	od;
	settling--
}

inline release() {
	if
	:: room < ZERO && !marked -> grants++
	:: else
	fi;
	room++;
	check()
}

/* Who made now unsettled settles it. A step later is as good as at once: settle looks again. */
inline afterRelease() {
#ifndef NOT_SETTLED
	if
	:: atomic { unsettled -> skip }; settle()
	:: atomic { !unsettled -> skip }
	fi
#else
	skip
#endif
}

proctype holder() {
	byte sRoom, sGen, aVersion, aCount;
	bool sMarked, sClosed, aFrozen, second;

	atomic { used--; release() };
	afterRelease();
	ended++
}

proctype acquirer(byte me) {
	byte sRoom, sGen, aVersion, aCount;
	bool sMarked, sClosed, aFrozen, second, got, waits;

	/* acquire */
	do
	:: atomic { loadAside };
		atomic {
			if
			:: unsettled -> forgetAside; sMarked = false
			:: !unsettled && closed -> forgetAside; break
			:: !unsettled && !closed && marked -> sMarked = true
			:: !marked && room > ZERO -> room--; used++; got = true; check(); forgetAside; break
			:: !marked && room <= ZERO -> room--; line++; waits = true; check(); forgetAside; break
			fi
		};
		if
		:: sMarked ->
			atomic {
				sMarked = false;
				if
				:: sameAside -> count++; line++; waits = true; check(); forgetAside; break
				:: else -> forgetAside
				fi
			}
		:: else -> settle()
		fi
	od;

	/* wait */
	if
	:: waits ->
		if
		:: atomic { grants > 0 -> grants--; line--; used++; got = true; waits = false }
		:: atomic { shuts > 0 -> shuts--; line--; waits = false }
		:: me < CANCELLERS
		fi
	:: else
	fi;
	/* giveUp: uncountWaiting, then the cell */
	do
	:: !waits -> break
	:: waits -> atomic { loadAside };
		atomic {
			if
			:: closed || !marked && room >= ZERO -> forgetAside; break
			:: unsettled -> forgetAside; sMarked = false
			:: !closed && !unsettled && marked -> sMarked = true
			:: !marked && room < ZERO -> room++; line--; waits = false; check(); forgetAside; break
			fi
		};
		if
		:: !sMarked -> settle()
		:: sMarked && aCount == 0 ->
			atomic {
				sMarked = false;
				if
#ifdef UNCOUNT_LOOKS_ONCE
				:: true -> assert(closed || !marked || count == 0); forgetAside; break
#else
				:: sameAside -> assert(closed || !marked || count == 0); forgetAside; break
				:: else -> forgetAside
#endif
				fi
			}
		:: sMarked && aCount > 0 ->
			atomic {
				sMarked = false;
				if
				:: sameAside -> count--; line--; waits = false; check(); forgetAside; break
				:: else -> forgetAside
				fi
			}
		fi
	od;
	if
	:: waits ->
		/* A signal is coming. */
		if
		:: atomic { grants > 0 -> grants--; line--; used++; got = true }
		:: atomic { shuts > 0 -> shuts--; line-- }
		fi;
		waits = false
	:: else
	fi;
	if
	:: atomic { got -> used--; got = false; release() };
		afterRelease()
	:: else
	fi;
	ended++
}

/* resize to a limit; the places are another matter. */
inline resize(to) {
	do
	:: atomic {
			if
			:: unsettled
			:: !unsettled && marked -> room = room + to - limit; gen = 1 - gen; limit = to; check(); break
			:: !marked && inFlight <= to ->
				grants = grants + waitingNow;
				room = room + to - limit;
				grants = grants - waitingNow;
				gen = 1 - gen; limit = to; check();
				break
			:: !marked && inFlight > to -> loadNow
			fi
		};
		if
		:: sRoom == 0 -> settle()
		:: else ->
			/* Nobody looks at aside before the bit is set. */
			atomic { version++; frozen = false; count = (sRoom < ZERO -> ZERO - sRoom : 0) };
			atomic {
				if
				:: sameNow ->
					room = ZERO + to - inFlight;
					marked = true;
					gen = 1 - gen; limit = to; check();
					forgetNow;
					break
				:: else -> forgetNow
				fi
			}
		fi
	od;
	afterRelease();
#ifndef NOBODY_WAITS_FOR_SETTLERS
	atomic { settling == 0 -> skip }
#endif
}

inline close() {
	do
	:: atomic {
			if
			:: unsettled
			:: !unsettled ->
				sMarked = marked;
				sRoom = (marked -> 0 : waitingNow);
				room = ZERO - inFlight;
				marked = true;
				closed = true;
				break
			fi
		};
		settle()
	od;
	atomic {
		shuts = shuts + (sMarked -> count : sRoom);
		frozen = true
	}
}

/* owner pauses the gate, lets less in, pauses it again, and opens it or closes it. */
proctype owner() {
	byte sRoom, sGen, aVersion, aCount;
	bool sMarked, sClosed, aFrozen, second;

	resize(0);
	resize(1);
	resize(0);
	if
	:: resize(MOST)
#if CLOSES
	:: close()
#endif
	fi;
	ended++
}

init {
	byte i;
	atomic {
		for (i : 1 .. HOLDERS) { run holder() };
		for (i : 1 .. ACQUIRERS) { run acquirer(i - 1) };
		run owner();
		i = 0
	};
	atomic {
		ended == HOLDERS + ACQUIRERS + 1 ->
		assert(used == 0 && line == 0 && grants == 0 && shuts == 0 && settling == 0);
		assert(closed || (!marked && room == ZERO + MOST));
		assert(!closed || room == ZERO)
	}
}
