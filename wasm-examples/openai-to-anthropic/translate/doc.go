// Package translate turns requests to OpenAI's chat completions into requests to Anthropic's messages, and the answers back.
//
//	messages, chat, err := translate.Request(body, 4096)
//	if err != nil {
//		answer(400, translate.ErrorBody(err))
//		return
//	}
//	status, contentType, answer := send(messages)
//	switch {
//	case status >= 400:
//		answer = translate.Failure(answer)
//	case contentType == "text/event-stream":
//		stream := translate.NewStream(chat, time.Now().Unix())
//		answer = stream.Translate(nil, answer, true) // or chunk by chunk
//	default:
//		answer, err = translate.Answer(answer, time.Now().Unix())
//	}
//
// It knows nothing of HTTP, plugins or WebAssembly: the plugin beside it does. README.md there says what is translated,
// what is dropped and what is refused. OpenAI's side is https://platform.openai.com/docs/api-reference/chat, Anthropic's
// https://docs.anthropic.com/en/api/messages.
package translate
