package main

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/edge-proxy/edge/proxy"
	"github.com/edge-proxy/edge/proxy/admin"
)

// document is the whole configuration: what the proxy and its admin plane are made from, and what only the process
// needs. Its tags are those of proxy.Config; envPrefix stands before the variables of an object.
type document struct {
	// Listen is the address that callers connect to, as host:port; without a host, all addresses.
	Listen string `json:"listen" env:"LISTEN"`

	// TLS makes the listener speak TLS.
	TLS tlsFiles `json:"tls" envPrefix:"TLS_"`

	// H2C accepts HTTP/2 without TLS. With TLS, HTTP/2 is always on.
	H2C bool `json:"h2c" env:"H2C"`

	// Admin is the admin listener.
	Admin admin.Config `json:"admin" envPrefix:"ADMIN_"`

	// Log is what is written to stderr.
	Log logSettings `json:"log" envPrefix:"LOG_"`

	// Profile is the set of values to begin from, in place of the defaults.
	Profile string `json:"profile" env:"PROFILE" range:"high-throughput|balanced|burst-resistant|resource-constrained"`

	// ProviderDefaults has the shape of a provider; each provider starts from it.
	ProviderDefaults proxy.Provider `json:"provider_defaults" envPrefix:"PROVIDER_DEFAULTS_"`

	proxy.Config
}

type tlsFiles struct {
	// CertFile is the listener's certificate chain, a PEM file. It needs key_file.
	CertFile string `json:"cert_file" env:"CERT_FILE"`

	// KeyFile is the certificate's private key, a PEM file. It needs cert_file.
	KeyFile string `json:"key_file" env:"KEY_FILE"`
}

type logSettings struct {
	// Level is the least important level that is written.
	Level string `json:"level" env:"LEVEL" range:"debug|info|warn|error"`

	// Format is one JSON object a line, or text for people.
	Format string `json:"format" env:"FORMAT" range:"json|text"`

	// Access is a line for each request that has ended: off, or as json, or common for the NCSA common log format. See
	// logs.md.
	Access string `json:"access" env:"ACCESS" range:"off|json|common"`
}

// defaultDocument returns the configuration before anything is configured.
func defaultDocument() document {
	return document{
		Listen:           ":8080",
		Admin:            admin.DefaultConfig(),
		Log:              logSettings{Level: "info", Format: "json", Access: "off"},
		Profile:          "balanced",
		ProviderDefaults: proxy.DefaultProvider(),
		Config:           proxy.DefaultConfig(),
	}
}

// invalid returns all that is wrong with the values; where they came from is not known here.
func (d *document) invalid() []proxy.Fault {
	faults := wordFaults(reflect.ValueOf(*d), "")
	faults = append(faults, addressFaults("listen", d.Listen)...)
	faults = append(faults, addressFaults("admin.listen", d.Admin.Listen)...)
	if (d.TLS.CertFile == "") != (d.TLS.KeyFile == "") {
		path, other := "tls.key_file", "tls.cert_file"
		if d.TLS.CertFile == "" {
			path, other = other, path
		}
		faults = append(faults, proxy.Fault{Path: path, Got: `""`, Want: "a file, since " + other + " is set"})
	}
	if token := d.Admin.Token.Reveal(); strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		faults = append(faults, proxy.Fault{Path: "admin.token", Want: "want visible ASCII characters (the value is not shown)"})
	}
	if d.Admin.Token == "" && len(addressFaults("", d.Admin.Listen)) == 0 && !onLoopback(d.Admin.Listen) {
		faults = append(faults, proxy.Fault{Path: "admin.token", Got: "none", Want: "a token (EDGE_ADMIN_TOKEN), since admin.listen, " + quoted(d.Admin.Listen) + ", is beyond loopback"})
	}
	faults = append(faults, configFaults(d.Config)...)
	return d.withDefaultsChecked(faults)
}

// withDefaultsChecked adds what is wrong with provider_defaults, in place of the same faults of every provider that
// takes over its values.
func (d *document) withDefaultsChecked(faults []proxy.Fault) []proxy.Fault {
	const stand = "providers.provider_defaults"
	p := d.ProviderDefaults.Clone()
	p.Fallbacks = nil // they are checked where the providers are known
	c := proxy.DefaultConfig()
	c.Plugins = d.Plugins
	if p.BaseURL == "" {
		p.BaseURL = "http://localhost"
	}
	c.Providers = map[string]proxy.Provider{"provider_defaults": p}
	for _, f := range configFaults(c) {
		suffix, ok := strings.CutPrefix(f.Path, stand)
		if !ok { // of a plugin
			continue
		}
		faults = slices.DeleteFunc(faults, func(other proxy.Fault) bool {
			return strings.HasPrefix(other.Path, "providers.") && strings.HasSuffix(other.Path, suffix) && other.Got == f.Got && other.Want == f.Want
		})
		faults = append(faults, proxy.Fault{Path: "provider_defaults" + suffix, Got: f.Got, Want: f.Want})
	}
	return faults
}

func configFaults(c proxy.Config) []proxy.Fault {
	if err, ok := errors.AsType[*proxy.ConfigError](c.Validate()); ok {
		return err.Faults
	}
	return nil
}

// wordFaults checks the range tags of this file's structs, which are choices between words.
func wordFaults(v reflect.Value, path string) (faults []proxy.Fault) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		at := path + field.Tag.Get("json")
		switch {
		case field.Type.PkgPath() == reflect.TypeFor[document]().PkgPath() && field.Type.Kind() == reflect.Struct:
			faults = append(faults, wordFaults(v.Field(i), at+".")...)
		case field.Type.Kind() == reflect.String && field.Tag.Get("range") != "":
			words := strings.Split(field.Tag.Get("range"), "|")
			if word := v.Field(i).String(); !slices.Contains(words, word) {
				faults = append(faults, proxy.Fault{Path: at, Got: quoted(word), Want: strings.Join(words, ", ") + didYouMean(word, words)})
			}
		}
	}
	return faults
}

func didYouMean(word string, choices []string) string {
	if best, ok := proxy.Nearest(word, choices); ok && best != "" {
		return " (did you mean " + best + "?)"
	}
	return ""
}

func addressFaults(path, address string) []proxy.Fault {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err == nil && host != "" && strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		err = errUnwanted
	}
	if err == nil {
		return nil
	}
	return []proxy.Fault{{Path: path, Got: quoted(address), Want: "host:port or :port, with a port of 0 to 65535"}}
}

// onLoopback reports whether only this machine can connect to address.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}
