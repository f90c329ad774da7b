package admin_test

import (
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy"
	"github.com/edge-proxy/edge/proxy/admin"
)

func TestValidateNamesEveryFault(t *testing.T) {
	f := func(listen string, token proxy.Secret, want ...string) {
		t.Helper()
		err := admin.Config{Listen: listen, Token: token}.Validate()
		if len(want) == 0 {
			if err != nil {
				t.Errorf("listen %q: %v", listen, err)
			}
			return
		}
		if err == nil {
			t.Errorf("listen %q: no error, want %q", listen, want)
			return
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("listen %q: %q does not say %q", listen, err, part)
			}
		}
		if token != "" && strings.Contains(err.Error(), token.Reveal()) {
			t.Errorf("listen %q: %q shows the token", listen, err)
		}
	}
	f(admin.DefaultConfig().Listen, "")
	f("localhost:0", "")
	f("LocalHost:9090", "")
	f("127.8.7.6:9090", "")
	f("[::1]:9090", "")
	f("[::ffff:127.0.0.1]:9090", "")
	f(":9090", "t")
	f("0.0.0.0:9090", "t")
	f("edge.internal:9090", "t")

	exposed := []string{"admin.listen (EDGE_ADMIN_LISTEN)", "admin.token (EDGE_ADMIN_TOKEN)", "other machines"}
	f(":9090", "", exposed...)
	f("0.0.0.0:9090", "", exposed...)
	f("[::]:9090", "", exposed...)
	f("192.0.2.1:9090", "", exposed...)
	f("edge.internal:9090", "", exposed...)
	f("localhost.evil.example:9090", "", exposed...)

	address := []string{"admin.listen (EDGE_ADMIN_LISTEN)", "host:port"}
	f("", "", address...)
	f("127.0.0.1", "", address...)
	f("::1:9090", "", address...)
	f("127.0.0.1:", "", address...)
	f("127.0.0.1:65536", "", address...)
	f("127.0.0.1:http", "", address...)

	f("127.0.0.1:9090", "two words", "admin.token (EDGE_ADMIN_TOKEN)", "visible ASCII")
	f("127.0.0.1:9090", "line\n", "admin.token (EDGE_ADMIN_TOKEN)")
	f("127.0.0.1:9090", "schlüssel", "admin.token (EDGE_ADMIN_TOKEN)")
	f("9090", "two words", "admin.listen", "admin.token") // both at once
}

func TestNewRefusesWhatValidateDoes(t *testing.T) {
	if h, err := admin.New(admin.Config{Listen: ":9090"}, &fakeSource{}, nil); err == nil || h != nil {
		t.Errorf("New beyond loopback without a token: handler %v, error %v", h, err)
	}
}
