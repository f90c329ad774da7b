package sigv4

import (
	"errors"
	"slices"
	"strings"
)

// Fields that the signer sets.
const (
	fieldDate    = "x-amz-date"
	fieldContent = "x-amz-content-sha256"
	fieldToken   = "x-amz-security-token"
)

// prefix begins the names of fields that AWS takes to itself: each one that is sent must be signed.
const prefix = "x-amz-"

// Config is the plugin's configuration. It holds credentials, so no error shows a value of it.
type Config struct {
	AccessKeyID     string   // access_key_id
	SecretAccessKey string   // secret_access_key
	SessionToken    string   // session_token; "" for credentials that last
	Region          string   // region, such as us-east-1
	Service         string   // service, default bedrock
	BasePath        string   // base_path: the path of the provider's base_url, without a slash at its end
	KeepHeaders     []string // keep_headers: what a caller may send of x-amz-*, in lower case
}

// ParseConfig reads a configuration, a JSON object. Its error names all that is wrong.
func ParseConfig(text string) (Config, error) {
	c := Config{Service: "bedrock"}
	texts := map[string]*string{
		"access_key_id": &c.AccessKeyID, "secret_access_key": &c.SecretAccessKey, "session_token": &c.SessionToken,
		"region": &c.Region, "service": &c.Service, "base_path": &c.BasePath,
	}
	r := reader{text}
	for name, ok := range r.members() {
		switch {
		case !ok:
			return c, errors.New(`want a JSON object with texts and, for keep_headers, a list of texts`)
		case name == "keep_headers":
			c.KeepHeaders, ok = r.texts()
		case texts[name] != nil:
			*texts[name], ok = r.text()
		default:
			return c, errors.New("no key is called " + quoted(name))
		}
		if !ok {
			return c, errors.New(name + ": want a text, or a list of texts for keep_headers")
		}
	}
	c.BasePath = strings.TrimRight(c.BasePath, "/")
	for i, name := range c.KeepHeaders {
		c.KeepHeaders[i] = strings.ToLower(name)
	}
	return c, c.fault()
}

// fault says what is wrong with c, without a value: what stands in the wrong place may be the secret.
func (c *Config) fault() error {
	var faults []string
	want := func(ok bool, fault string) {
		if !ok {
			faults = append(faults, fault)
		}
	}
	want(consists(c.AccessKeyID, isWord), "access_key_id: want letters and digits")
	want(consists(c.SecretAccessKey, isVisible), "secret_access_key: want visible ASCII characters")
	want(c.SessionToken == "" || consists(c.SessionToken, isVisible), "session_token: want visible ASCII characters, or none")
	want(consists(c.Region, isLabel), "region: want lower-case letters, digits and -, such as us-east-1")
	want(consists(c.Service, isLabel), "service: want lower-case letters, digits and -, such as bedrock")
	want(!slices.Contains([]string{"s3", "s3express", "s3-object-lambda", "s3-outposts"}, c.Service),
		"service: S3 has other rules for paths, which this plugin does not know")
	want(c.BasePath == "" || c.BasePath[0] == '/' && consists(c.BasePath, isVisible) && !strings.ContainsAny(c.BasePath, "?#"),
		"base_path: want the path of base_url, which begins with /")
	for _, name := range c.KeepHeaders {
		want(name != fieldDate && name != fieldContent && name != fieldToken && strings.HasPrefix(name, prefix) && consists(name, isLabel),
			"keep_headers: want names that begin with "+prefix+", but none that the plugin sets itself")
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(slices.Compact(faults), "; "))
	}
	return nil
}

// Foreign reports whether a field, its name in lower case, must not reach AWS from a caller: it would speak for one who is
// not the signer, or go unsigned.
func (c *Config) Foreign(name string) bool {
	return name == "authorization" || strings.HasPrefix(name, prefix) && !slices.Contains(c.KeepHeaders, name)
}

// Signed reports whether a field of a caller's, its name in lower case, is signed: no more than AWS demands, since what
// stands on the way to it may change others.
func (c *Config) Signed(name string) bool {
	return name == "host" || name == "content-type" || slices.Contains(c.KeepHeaders, name)
}

func consists(s string, of func(byte) bool) bool {
	for i := range len(s) {
		if !of(s[i]) {
			return false
		}
	}
	return s != ""
}

func isVisible(c byte) bool { return ' ' < c && c < 0x7f }
func isLabel(c byte) bool   { return isLower(c) || isDigit(c) || c == '-' }
