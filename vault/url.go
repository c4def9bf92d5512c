package vault

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"colorfast"
)

// place is a vault's URL, taken apart. It holds no secret: a URL with one is
// refused.
type place struct {
	scheme string
	user   string // of sftp and webdav
	host   string // with the port, if there is one; bucket or container of object storages
	path   string // of file, sftp and webdav: absolute; of object storages without slashes around it
	params map[string]string
}

// form says what a URL of some scheme looks like.
type form struct {
	example string
	params  []string // that it may have
	host    string   // what its host part is called; "" if it has none
	path    bool     // it needs one, and that is absolute
	user    bool     // it may have one
}

// Parameters of several storages.
const (
	paramEndpoint  = "endpoint"   // where the service is, if not at its usual place
	paramCAFile    = "ca_file"    // certificates to trust, in PEM, in place of the system's
	paramPlainHTTP = "plain_http" // "true": do without encryption on the way to a host that is not this one
)

var forms = map[string]form{
	"file": {example: "file:///srv/backups/chroma", path: true},
	"s3": {
		example: "s3://bucket/prefix?region=eu-central-1", host: "bucket",
		params: []string{"region", paramEndpoint, "path_style", "profile", "sse", "sse_kms_key", paramCAFile, paramPlainHTTP},
	},
	"gs":     {example: "gs://bucket/prefix", host: "bucket", params: []string{paramEndpoint, paramCAFile, paramPlainHTTP}},
	"azblob": {example: "azblob://container/prefix?account=name", host: "container", params: []string{"account", paramEndpoint, paramCAFile, paramPlainHTTP}},
	"sftp":   {example: "sftp://user@host/srv/backups/chroma", host: "host", path: true, user: true, params: []string{"key_file", "known_hosts"}},
	"webdav": {example: "webdav://user@localhost:8080/backups/chroma", host: "host", path: true, user: true, params: []string{paramPlainHTTP}},
	"webdavs": {
		example: "webdavs://user@host/backups/chroma", host: "host", path: true, user: true, params: []string{paramCAFile},
	},
}

// CleanURL returns the one spelling of a vault's URL that stands for all others:
// parameters in order, a plain path as a URL. Errors: Usage when it names no
// vault, Unsupported for a storage that is not known. They do not show the URL
// where it holds a secret.
func CleanURL(vaultURL string) (string, error) {
	p, err := parseURL(vaultURL)
	if err != nil {
		return "", err
	}
	return p.String(), nil
}

// Folder returns the folder of a vault on this host, "" for others and for what
// names no vault.
func Folder(vaultURL string) string {
	if p, err := parseURL(vaultURL); err == nil && p.scheme == "file" {
		return p.path
	}
	return ""
}

// String returns the URL in its one spelling.
func (p *place) String() string {
	u := url.URL{Scheme: p.scheme, Host: p.host, Path: p.path}
	if p.user != "" {
		u.User = url.User(p.user)
	}
	if !strings.HasPrefix(u.Path, "/") && u.Path != "" {
		u.Path = "/" + u.Path
	}
	q := url.Values{}
	for k, v := range p.params {
		q.Set(k, v)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// short is the URL without its parameters, for error messages.
func (p *place) short() string {
	return (&place{scheme: p.scheme, user: p.user, host: p.host, path: p.path}).String()
}

// parseURL takes a vault's URL apart; a plain path is one of scheme "file".
func parseURL(vaultURL string) (*place, error) {
	if vaultURL == "" {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault: no URL is given").
			WithHint("give a folder, such as %q", forms["file"].example)
	}
	if scheme, _, ok := strings.Cut(vaultURL, ":"); ok && !strings.Contains(vaultURL, "://") && forms[scheme].example != "" {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: it is no URL, for two slashes are missing", scheme+":…").
			WithHint("write it as in %q", forms[scheme].example)
	}
	if !strings.Contains(vaultURL, "://") {
		abs, err := filepath.Abs(vaultURL)
		if err != nil {
			return nil, colorfast.Errorf(colorfast.Internal, "open vault %q: %w", vaultURL, err)
		}
		return &place{scheme: "file", path: abs}, nil
	}
	u, err := url.Parse(vaultURL)
	if err != nil {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault: its URL cannot be parsed"). // it may hold a password
													WithHint("write it as in %q; special characters as %%XX", forms["s3"].example)
	}
	if strings.HasPrefix(vaultURL, "file://") {
		return parseFile(u, vaultURL)
	}
	f, ok := forms[u.Scheme]
	if !ok {
		return nil, colorfast.Errorf(colorfast.Unsupported, "open vault: storage %q is not known", u.Scheme).
			WithHint("the storages are %s; a folder is written %q", strings.Join(slices.Sorted(maps.Keys(forms)), ", "), forms["file"].example)
	}
	return f.parse(u)
}

func parseFile(u *url.URL, shown string) (*place, error) {
	if u.User != nil || u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
		if u.User != nil {
			shown = "file:"
		}
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: not an absolute path", shown).
			WithHint("write it with three slashes, such as %q", forms["file"].example)
	}
	return &place{scheme: "file", path: filepath.Clean(u.Path)}, nil
}

// parse reads a URL that has the form. Before it knows that there is no secret in
// it, it shows the scheme only.
func (f form) parse(u *url.URL) (*place, error) {
	p := &place{scheme: u.Scheme, host: u.Host, params: map[string]string{}}
	bad := func(shown, format string, args ...any) (*place, error) {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: "+format, append([]any{shown}, args...)...).
			WithHint("write it as in %q", f.example)
	}
	shown := u.Scheme + "://…"
	if _, ok := u.User.Password(); ok {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: a password is in the URL, where everybody sees it", shown).
			WithHint("take it out, and %s; change it, for it may be in your shell's history", passwordPlaces[u.Scheme])
	}
	if u.User != nil && !f.user {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: credentials are in the URL, where everybody sees them", shown).
			WithHint("take them out, and %s", passwordPlaces[u.Scheme])
	}
	p.user = u.User.Username()
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return bad(shown, "its parameters cannot be parsed")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch values := query[name]; {
		case !slices.Contains(f.params, name) && len(f.params) == 0:
			return bad(shown, "it may have no parameters")
		case !slices.Contains(f.params, name):
			return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: parameter %q is not known", shown, name).
				WithHint("the parameters are %s", strings.Join(f.params, ", "))
		case len(values) != 1 || values[0] == "":
			return bad(shown, "parameter %q must be given once, with a value", name)
		default:
			p.params[name] = values[0]
		}
	}
	if u.Opaque != "" || u.Fragment != "" || strings.Contains(u.String(), "#") {
		return bad(shown, "it has a part behind \"#\"")
	}
	if p.host == "" || strings.HasPrefix(p.host, ":") {
		return bad(shown, "no %s is named", f.host)
	}
	if err := p.cleanPath(u.Path, f); err != nil {
		return bad(p.short(), "%w", err)
	}
	if !f.path && (u.Port() != "" || !plainName(p.host)) {
		return bad(p.short(), "%q cannot be the name of a %s", p.host, f.host)
	}
	return p, p.checkParams()
}

// passwordPlaces says where the credentials of a storage belong.
var passwordPlaces = map[string]string{
	"s3":      "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
	"gs":      "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account",
	"azblob":  "set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN",
	"sftp":    "use a key (?key_file=…), or set COLORFAST_SFTP_PASSWORD_FILE",
	"webdav":  "set COLORFAST_WEBDAV_PASSWORD_FILE",
	"webdavs": "set COLORFAST_WEBDAV_PASSWORD_FILE",
}

// cleanPath takes over a path that has nothing to be interpreted.
func (p *place) cleanPath(raw string, f form) error {
	trimmed := strings.Trim(raw, "/")
	for _, part := range strings.Split(trimmed, "/") {
		if part == "." || part == ".." || part == "" && trimmed != "" || strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
			return fmt.Errorf("path %q has empty elements, dots or control characters", raw)
		}
	}
	p.path = trimmed
	if f.path {
		p.path = "/" + trimmed
		if trimmed == "" {
			return fmt.Errorf("no folder is named")
		}
	}
	return nil
}

// checkParams looks at values that mean the same for every storage.
func (p *place) checkParams() error {
	bad := func(format string, args ...any) error {
		return colorfast.Errorf(colorfast.Usage, "open vault %q: "+format, append([]any{p.short()}, args...)...).
			WithHint("write it as in %q", forms[p.scheme].example)
	}
	for _, name := range []string{paramPlainHTTP, "path_style"} {
		if v := p.params[name]; v != "" && v != "true" && v != "false" {
			return bad("parameter %q is \"true\" or \"false\", not %q", name, v)
		}
	}
	for _, name := range []string{paramCAFile, "key_file", "known_hosts"} {
		if v := p.params[name]; v != "" && !path.IsAbs(v) {
			return bad("parameter %q must be an absolute path", name)
		}
	}
	switch sse := p.params["sse"]; {
	case sse != "" && sse != "s3" && sse != "kms":
		return bad("parameter \"sse\" is \"s3\" or \"kms\", not %q", sse)
	case p.params["sse_kms_key"] != "" && sse != "kms":
		return bad("parameter \"sse_kms_key\" needs \"sse=kms\"")
	}
	if _, err := p.endpoint(""); err != nil {
		return err
	}
	if p.scheme == "webdav" {
		return p.checkPlain(p.host)
	}
	return nil
}

// endpoint returns where the service is: usual, unless a parameter says something
// else. It is https unless it says http, and that only where it is allowed.
func (p *place) endpoint(usual string) (*url.URL, error) {
	raw := p.params[paramEndpoint]
	if raw == "" {
		raw = usual
	}
	if raw == "" {
		return nil, nil
	}
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: its endpoint is no address of a server", p.short()).
			WithHint("write it as in \"endpoint=https://storage.example.com:9000\"")
	}
	if u.Scheme == "http" {
		err = p.checkPlain(u.Host)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, err
}

// checkPlain refuses a way without encryption, on which credentials can be read,
// to any other host, unless the URL says that it is meant.
func (p *place) checkPlain(host string) error {
	if isLoopback(host) || p.params[paramPlainHTTP] == "true" {
		return nil
	}
	return colorfast.Errorf(colorfast.Usage, "open vault %q: plain http to %q would show your credentials on the way", p.short(), host).
		WithHint("use https, or add \"%s=true\" if you mean it", paramPlainHTTP)
}

// isLoopback reports whether a host, with or without port, is this one.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// plainName reports whether s can be the name of a bucket or container anywhere;
// the service decides about the rest.
func plainName(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.$", r))
	})
}
