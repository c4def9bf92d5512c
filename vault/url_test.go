package vault

import (
	"strings"
	"testing"

	"colorfast"
)

func TestCleanURL(t *testing.T) {
	for give, want := range map[string]string{
		"/srv/vault":                                                "file:///srv/vault",
		"file:///srv/vault/":                                        "file:///srv/vault",
		"file://localhost/srv/vault":                                "file:///srv/vault",
		"/srv/a b%":                                                 "file:///srv/a%20b%25",
		"s3://b?region=eu-central-1":                                "s3://b?region=eu-central-1",
		"s3://b/p/?sse=s3&region=r":                                 "s3://b/p?region=r&sse=s3",
		"s3://b/p/q/":                                               "s3://b/p/q",
		"gs://my_bucket.example.com/p":                              "gs://my_bucket.example.com/p",
		"azblob://con/p?account=acc":                                "azblob://con/p?account=acc",
		"sftp://u@h/srv/v":                                          "sftp://u@h/srv/v",
		"sftp://u@[::1]:2222/srv/v/":                                "sftp://u@[::1]:2222/srv/v",
		"webdavs://u@h/dav/v":                                       "webdavs://u@h/dav/v",
		"webdav://localhost:80/v":                                   "webdav://localhost:80/v",
		"webdav://[::1]/v":                                          "webdav://[::1]/v",
		"webdav://127.0.0.5:1/v":                                    "webdav://127.0.0.5:1/v",
		"webdav://h/v?plain_http=true":                              "webdav://h/v?plain_http=true",
		"s3://b?endpoint=http://127.0.0.1:9000":                     "s3://b?endpoint=http%3A%2F%2F127.0.0.1%3A9000",
		"s3://b?endpoint=http://nas:9000&plain_http=true":           "s3://b?endpoint=http%3A%2F%2Fnas%3A9000&plain_http=true",
		"sftp://u@h/v?known_hosts=/etc/known&key_file=/etc/key":     "sftp://u@h/v?key_file=%2Fetc%2Fkey&known_hosts=%2Fetc%2Fknown",
		"s3://b?sse=kms&sse_kms_key=arn:aws:kms:r:1:key/x&region=r": "s3://b?region=r&sse=kms&sse_kms_key=arn%3Aaws%3Akms%3Ar%3A1%3Akey%2Fx",
	} {
		got, err := CleanURL(give)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", give, got, err, want)
			continue
		}
		if again, err := CleanURL(got); err != nil || again != got {
			t.Errorf("%q: cleaned again %q, %v", got, again, err)
		}
	}
}

func TestBadURLs(t *testing.T) {
	const secret = "hunter2"
	for give, hint := range map[string]string{
		"":                               "file:///",
		"file://relative":                "three slashes",
		"file:///v?x=1":                  "three slashes",
		"file://u:" + secret + "@/v":     "three slashes",
		"s3://":                          "s3://bucket",
		"s3:///prefix":                   "s3://bucket",
		"s3://b:90/p":                    "s3://bucket",
		"s3://b c/p":                     "",
		"s3://b/p/../q":                  "s3://bucket",
		"s3://b/p//q":                    "s3://bucket",
		"s3://b/p%00":                    "s3://bucket",
		"s3://b/p#f":                     "s3://bucket",
		"s3://b?regoin=x":                "region, endpoint",
		"s3://b?region=a&region=b":       "s3://bucket",
		"s3://b?region=":                 "s3://bucket",
		"s3://b?path_style=1":            "s3://bucket",
		"s3://b?ca_file=ca.pem":          "s3://bucket",
		"s3://b?sse=aes":                 "s3://bucket",
		"s3://b?sse_kms_key=k":           "s3://bucket",
		"s3://b?endpoint=http://nas:900": "plain_http=true",
		"s3://b?endpoint=ftp://nas":      "endpoint=https",
		"s3://b?endpoint=https://u:" + secret + "@nas": "endpoint=https",
		"s3://KEY:" + secret + "@b/p":                  "AWS_ACCESS_KEY_ID",
		"s3://" + secret + "@b/p":                      "AWS_ACCESS_KEY_ID",
		"gs://u:" + secret + "@b":                      "GOOGLE_APPLICATION_CREDENTIALS",
		"azblob://c?account=a&sig=" + secret:           "account, endpoint",
		"azblob://":                                    "azblob://container",
		"sftp://u@h":                                   "sftp://user@host",
		"sftp://u@h/":                                  "sftp://user@host",
		"sftp://u:" + secret + "@h/v":                  "COLORFAST_SFTP_PASSWORD_FILE",
		"sftp:///v":                                    "sftp://user@host",
		"sftp://u@h/v?key_file=id":                     "sftp://user@host",
		"webdav://h/v":                                 "plain_http=true",
		"webdavs://h/v?plain_http=true":                "ca_file",
		"webdavs://u:" + secret + "@h/v":               "COLORFAST_WEBDAV_PASSWORD_FILE",
		"webdavs://u:" + secret + "@h:x/%zz":           "",
	} {
		_, err := CleanURL(give)
		wantKind(t, err, colorfast.Usage, hint)
		if err != nil && (strings.Contains(err.Error()+colorfast.HintOf(err), secret) || colorfast.HintOf(err) == "" || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: %v; hint %q", give, err, colorfast.HintOf(err))
		}
		for what, err := range map[string]error{
			"create": Create(t.Context(), Options{URL: give}),
			"open":   second(Open(t.Context(), Options{URL: give, Password: password})),
		} {
			wantKind(t, err, colorfast.Usage, hint)
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s %q shows the secret: %v", what, give, err)
			}
		}
	}
	_, err := CleanURL("ftp://host/v")
	wantKind(t, err, colorfast.Unsupported, "azblob, file, gs, s3, sftp")
}

func second(_ *Vault, err error) error { return err }

// TestWithoutCredentials looks for what each storage says that gets none.
func TestWithoutCredentials(t *testing.T) {
	for _, c := range []struct {
		url  string
		env  map[string]string
		kind colorfast.Kind
		hint string
	}{
		{"s3://b", nil, colorfast.Usage, "AWS_REGION"},
		{"s3://b?region=r", map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}, colorfast.Denied, "AWS_ACCESS_KEY_ID"},
		{"s3://b?region=r", map[string]string{"AWS_ACCESS_KEY_ID": "x"}, colorfast.Usage, "both"},
		{"s3://b?region=r&profile=nobody", nil, colorfast.Usage, "aws_access_key_id"},
		{"s3://b?region=r", map[string]string{"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_SECRET_ACCESS_KEY_FILE": "/z"}, colorfast.Usage, "unset"},
		{"s3://b?region=r&ca_file=/nowhere", nil, colorfast.Usage, "ca_file"},
		{"gs://b", map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"}, colorfast.Usage, "GOOGLE_APPLICATION_CREDENTIALS"},
		{"azblob://con", nil, colorfast.Usage, "AZURE_STORAGE_ACCOUNT"},
		{"azblob://con?account=Ä", nil, colorfast.Usage, "lower-case"},
		{"azblob://con?account=acc", map[string]string{"AZURE_STORAGE_KEY": "%%%"}, colorfast.Usage, "AZURE_STORAGE_KEY"},
		{"sftp://h/v", nil, colorfast.Usage, "user"},
		{"sftp://u@h/v", nil, colorfast.Denied, "key_file"},
		{"sftp://u@h/v?key_file=/nowhere", nil, colorfast.Usage, "key_file"},
		{"sftp://u@h/v?known_hosts=/nowhere", map[string]string{"COLORFAST_SFTP_PASSWORD": "x"}, colorfast.Usage, "known_hosts"},
	} {
		o := Options{URL: c.url, Password: password, Environment: func(n string) string { return c.env[n] }}
		_, err := Open(t.Context(), o)
		wantKind(t, err, c.kind, c.hint)
		wantKind(t, Create(t.Context(), o), c.kind, c.hint)
	}
}

// TestSchemeWithoutSlashes: it would silently become a folder.
func TestSchemeWithoutSlashes(t *testing.T) {
	for _, u := range []string{"s3:bucket", "file:relative", "sftp:host/dir"} {
		_, err := CleanURL(u)
		if colorfast.KindOf(err) != colorfast.Usage || !strings.Contains(colorfast.HintOf(err), "://") {
			t.Errorf("%q: %v, hint %q", u, err, colorfast.HintOf(err))
		}
	}
	if got, err := CleanURL("./a:b"); err != nil || !strings.HasSuffix(got, "/a:b") {
		t.Errorf("a folder with a colon: %q, %v", got, err)
	}
}
