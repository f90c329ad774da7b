package admin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/edge-proxy/edge/proxy"
)

// Config says where the admin plane listens and who may use it.
type Config struct {
	// Listen is the address of the admin listener, host:port. Beyond loopback it needs a token.
	// Default 127.0.0.1:9090.
	Listen string `json:"listen" env:"LISTEN"`

	// Token is what a caller presents as Authorization: Bearer. Without one, everything is open to whoever
	// reaches the loopback address.
	Token proxy.Secret `json:"token" env:"TOKEN"`

	// MetricsPublic serves /metrics without the token, to requests whose Host is an IP address, localhost or
	// the name in Listen.
	MetricsPublic bool `json:"metrics_public" env:"METRICS_PUBLIC"`
}

// DefaultConfig returns the loopback listener without a token.
func DefaultConfig() Config { return Config{Listen: "127.0.0.1:9090"} }

// Validate returns nil or every fault, joined, each naming its key and variable. It never shows the token.
func (c Config) Validate() error {
	var faults []error
	host, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		faults = append(faults, fmt.Errorf("admin.listen (EDGE_ADMIN_LISTEN): got %q, want host:port with a port from 0 to 65535, such as 127.0.0.1:9090", c.Listen))
	} else if c.Token == "" && !loopback(host) {
		faults = append(faults, fmt.Errorf("admin.listen (EDGE_ADMIN_LISTEN): got %q, which other machines may reach, and no token; set admin.token (EDGE_ADMIN_TOKEN) or listen on a loopback address such as 127.0.0.1:9090", c.Listen))
	}
	if strings.ContainsFunc(c.Token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		faults = append(faults, errors.New("admin.token (EDGE_ADMIN_TOKEN): want visible ASCII characters only (the value is not shown)"))
	}
	return errors.Join(faults...)
}

// loopback reports whether host can only be reached from this machine. A name other than localhost does not
// count: what it resolves to may change.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
