// Package sigv4 signs requests with AWS Signature Version 4. It is plain Go that knows nothing of plugins, and does without
// encoding/json, which would add 1.4 MB to one.
//
//	config, err := sigv4.ParseConfig(`{"access_key_id": "...", "secret_access_key": "...", "region": "us-east-1"}`)
//	signer := sigv4.NewSigner(config)
//	fields := signer.Sign(sigv4.Request{Method: "POST", Target: "/model/m/invoke", Fields: signed, Payload: hash}, time.Now())
//
// It signs whole content for services other than S3, whose paths follow rules of their own. There are no chunked signatures, no
// signatures in the query, no Signature Version 4A.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
package sigv4
