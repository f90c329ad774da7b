//go:build mutants

package e2e

// Mutants of the line.
var proxyMutants = []mutant{
	{
		name: "the permit is released at the response header", file: "reply.go", test: "TestPermitIsHeldUntilTheLastByte",
		from: "	x.committed = true\n	x.w.WriteHeader(a.Status)\n", to: "	x.committed = true\n	x.leave()\n	x.w.WriteHeader(a.Status)\n",
	},
	{
		name: "a body's slots are returned in a defer", file: "body.go", test: "TestSlotsGoBackWhenTheReaderIsClosed",
		from: "	case n > 0:\n		return\n", to: "	case n > 0:\n",
	},
	{
		name: "an answer that broke off ends cleanly", file: "proxy.go", test: "TestAnswerThatBreaksOffIsNeverCompleted",
		from: "		x.breakOff()\n", to: "		x.breakOff()\n		return\n",
	},
	{
		name: "a caller that has left is not noticed", file: "sweeper.go", test: "TestCallersThatLeaveTheQueueNeverReachTheProvider",
		from: "x.conn.own.gone() && !", to: "x.conn.own.gone() && false && !",
	},
	{
		name: "the gate lets everybody in", file: "generation.go", test: "TestConcurrencyAndBufferBoundTheProvider",
		from: "limiter.Config{Limit: p.Concurrency,", to: "limiter.Config{Limit: 60000,",
	},
	{
		name: "there is no arena", file: "exchange.go", test: "TestPermitIsHeldUntilTheLastByte",
		from: "	if blocked {\n", to: "	if blocked || true {\n",
	},
	{
		name: "the head of a stream waits for its first byte", file: "reply.go", test: "TestEventsAreFlushedAsTheyArrive",
		from: "	if (a.Length < 0 || eventStream(h)) && !ready(a.Body) {", to: "	if false && eventStream(h) && !ready(a.Body) {",
	},
	{
		name: "an Edge token goes upstream", file: "caller.go", test: "TestCallersCredentials",
		from: "	} else if !x.gen.open {", to: "	} else if false {",
	},
	{
		name: "every refusal costs the connection", file: "errors.go", test: "TestRefusalComesAtOnceAlthoughTheBodyIsUnread",
		from: "	x.readUp()\n", to: "",
	},
	{
		name: "what net/http does after the handler has no deadline", file: "exchange.go", test: "TestPipelinedRequestsWithoutReaderEnd",
		from: "	x.releaseConnection()\n", to: "",
	},
	{
		name: "who has left is still inside", file: "exchange.go", test: "TestHammerCallers",
		from: "	x.discharge()\n", to: "",
	},
	{
		name: "a caller's share is not given back", file: "exchange.go", test: "TestHammerCallers",
		from: "	x.unclaim()\n", to: "",
	},
	{
		name: "a caller's model is looked for on /v1 only", file: "rights.go", test: "TestCallerAsksOnlyForItsModels",
		from: "	b := x.content()\n", to: "	b := x.content()\n	if !x.route.byModel {\n		return nil\n	}\n",
	},
}
