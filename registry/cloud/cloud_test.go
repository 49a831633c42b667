package cloud

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/web"
)

// secret is in every secret of these tests, and in no message.
const secret = "S3CRET"

// A service answers like those of a cloud, on loopback, and remembers what it was asked.
type service struct {
	*httptest.Server
	handle func(w http.ResponseWriter, r *http.Request)

	mu    sync.Mutex // guards asked
	asked []string
}

func serve(t *testing.T, handle func(w http.ResponseWriter, r *http.Request)) *service {
	t.Helper()
	s := &service{handle: handle}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.Method+" "+r.URL.Path)
		s.mu.Unlock()
		s.handle(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) host() string { return strings.TrimPrefix(s.URL, "http://") }

func refuseAll(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	body := fmt.Sprintf(`{"error":"invalid_grant","error_description":%q,"__type":"x#AccessDenied"}`, r.Form.Encode()+r.Header.Get("Authorization"))
	http.Error(w, body, http.StatusForbidden)
}

var quick = web.Limits{Headers: time.Minute, Idle: time.Minute, GiveUp: time.Minute, Backoff: time.Millisecond}

// helpers are all helpers, with these variables. Nobody is at the address of a metadata server who is not among them.
func helpers(t *testing.T, vars map[string]string) *Helpers {
	t.Helper()
	nobody := httptest.NewServer(nil)
	nobody.Close()
	all := map[string]string{
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": nobody.URL, "GCE_METADATA_HOST": strings.TrimPrefix(nobody.URL, "http://"),
		"AZURE_POD_IDENTITY_AUTHORITY_HOST": nobody.URL,
	}
	for name, value := range vars {
		all[name] = value
	}
	return New([]string{"env", "google", "ecr", "acr", "gitlab"}, func(name string) string { return all[name] }, quick)
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantLogin asks twice, for what was answered is kept.
func wantLogin(t *testing.T, h *Helpers, host, user, password string) {
	t.Helper()
	for range 2 {
		got, err := h.Login(t.Context(), host)
		if err != nil || got.Username != user || got.Password != password {
			t.Fatalf("%s: %q, %q, %v; want %q, %q", host, got.Username, got.Password, err, user, password)
		}
	}
}

// wantRefusal wants an error that names the helper, what it goes by and what to do, and no secret.
func wantRefusal(t *testing.T, h *Helpers, host string, words ...string) {
	t.Helper()
	got, err := h.Login(t.Context(), host)
	if err == nil {
		t.Fatalf("%s: no error, and user %q", host, got.Username)
	}
	for _, word := range append(words, "credential helper ", "out of --credential-helpers") {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v; want %q in it", host, err, word)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("%s: a secret is in %v", host, err)
	}
	if web.Retryable(err) {
		t.Errorf("%s: the registry would be asked again after %v", host, err)
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		host string
		vars map[string]string
		want string
	}{
		{"ghcr.io", map[string]string{"KANIKO_GHCR_IO_USER": "u", "KANIKO_GHCR_IO_PASSWORD": "p"}, "u:p"},
		{"a-b.example.com:5000", map[string]string{"KANIKO_A_B_EXAMPLE_COM_5000_USER": "u", "KANIKO_A_B_EXAMPLE_COM_5000_PASSWORD": "p"}, "u:p"},
		{"a.example.com", map[string]string{"KANIKO_EXAMPLE_COM_USER": "u", "KANIKO_EXAMPLE_COM_PASSWORD": "p"}, "u:p"},
		{"docker.io", map[string]string{"KANIKO_INDEX_DOCKER_IO_USER": "u", "KANIKO_INDEX_DOCKER_IO_PASSWORD": "p"}, "u:p"},
		{"a.example.org", map[string]string{"KANIKO_EXAMPLE_COM_USER": "u", "KANIKO_EXAMPLE_COM_PASSWORD": "p"}, ":"},
		{"ghcr.io", map[string]string{"KANIKO_GHCR_IO_USER": "u"}, ":"},
		{"gl.corp:5050", map[string]string{"CI_REGISTRY": "gl.corp:5050", "CI_REGISTRY_USER": "u", "CI_REGISTRY_PASSWORD": "p"}, "u:p"},
		{"gl.corp", map[string]string{"CI_REGISTRY": "GL.corp:443", "CI_REGISTRY_USER": "u", "CI_JOB_TOKEN": "j"}, "gitlab-ci-token:j"},
		{"gl.corp", map[string]string{"CI_REGISTRY": "gl.corp"}, ":"},
		{"gl.corp:5050", map[string]string{"CI_REGISTRY": "gl.corp", "CI_JOB_TOKEN": "j"}, ":"},
		{"other.corp", map[string]string{"CI_REGISTRY": "gl.corp", "CI_JOB_TOKEN": "j"}, ":"},
		{"gl.corp", map[string]string{"CI_JOB_TOKEN": "j"}, ":"},
	} {
		got, err := helpers(t, test.vars).Login(t.Context(), test.host)
		if got := got.Username + ":" + got.Password; err != nil || got != test.want {
			t.Errorf("%s with %v: %s, %v; want %s", test.host, test.vars, got, err, test.want)
		}
	}
}

// A host of nobody's cloud has no metadata server asked, nor one of a helper that is not among the names.
func TestNobodyIsAsked(t *testing.T) {
	t.Parallel()
	s := serve(t, refuseAll)
	vars := map[string]string{
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": s.URL, "GCE_METADATA_HOST": s.host(), "AZURE_POD_IDENTITY_AUTHORITY_HOST": s.URL,
		"AWS_ENDPOINT_URL": s.URL, "AZURE_AUTHORITY_HOST": s.URL, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
		"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s",
	}
	h := helpers(t, vars)
	for _, host := range []string{
		"docker.io", "ghcr.io", "evilgcr.io", "gcr.io.evil.com", "gcr.io:5000", "pkg.dev", "azurecr.io", "evilazurecr.io", "x.azurecr.io.evil.com",
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.com", "123456789012.dkr.ecr.a.b.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com",
		"x.123456789012.dkr.ecr.eu-west-1.amazonaws.com", "s3.eu-west-1.amazonaws.com", "localhost:5000", "169.254.169.254",
	} {
		if got, err := h.Login(t.Context(), host); err != nil || got != (Login{}) {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
	h = helpers(t, vars)
	h.names = []string{"env", "gitlab"}
	for _, host := range []string{"gcr.io", "x.azurecr.io", "123456789012.dkr.ecr.eu-west-1.amazonaws.com"} {
		if got, err := h.Login(t.Context(), host); err != nil || got != (Login{}) {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
	if len(s.asked) != 0 {
		t.Errorf("asked: %v", s.asked)
	}
}

// Where there is neither a variable nor a metadata server, nobody is logged in, and that is no error.
func TestNothingToGoBy(t *testing.T) {
	t.Parallel()
	stranger := serve(t, refuseAll) // somebody else's metadata server
	for name, h := range map[string]*Helpers{
		"nobody": helpers(t, nil),
		"stranger": helpers(t, map[string]string{
			"AWS_EC2_METADATA_SERVICE_ENDPOINT": stranger.URL, "GCE_METADATA_HOST": stranger.host(), "AZURE_POD_IDENTITY_AUTHORITY_HOST": stranger.URL,
		}),
	} {
		for _, host := range []string{"gcr.io", "eu-docker.pkg.dev", "x.azurecr.io", "123456789012.dkr.ecr.eu-west-1.amazonaws.com", "public.ecr.aws"} {
			if got, err := h.Login(t.Context(), host); err != nil || got.Username != "" {
				t.Errorf("%s, %s: %v, %v", name, host, got, err)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	if err := Check([]string{"gitlab", "env", "acr", "ecr", "google"}); err != nil {
		t.Error(err)
	}
	if err := Check([]string{"env", "pass"}); err == nil || !strings.Contains(err.Error(), `{"credHelpers": {"HOST": "pass"}}`) {
		t.Errorf("Check = %v", err)
	}
}

// A token service that is busy is asked again; what is secret is sent to nobody by http.
func TestAsking(t *testing.T) {
	t.Parallel()
	busy := true
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if busy {
			busy = false
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, `{"access_token":"`+secret+`"}`)
	})
	user := fmt.Sprintf(`{"type":"authorized_user","refresh_token":%q,"token_uri":%q}`, secret, s.URL)
	wantLogin(t, helpers(t, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": file(t, user)}), "gcr.io", "oauth2accesstoken", secret)

	user = fmt.Sprintf(`{"type":"authorized_user","refresh_token":%q,"token_uri":"http://tokens.example.com/x"}`, secret)
	wantRefusal(t, helpers(t, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": file(t, user)}), "gcr.io", "tokens.example.com", "https only")
	for _, address := range []string{"http://169.254.169.254/x", "http://10.0.0.1/x", "ftp://127.0.0.1/x", "https://n:" + secret + "@127.0.0.1/x"} {
		if _, err := (&question{reach: near, address: address}).place(); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"http://169.254.170.2/x", "http://169.254.170.23/x", "http://[fd00:ec2::23]/x", "http://localhost:1/x", "https://10.0.0.1/x"} {
		if _, err := (&question{reach: near, address: address}).place(); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A login is asked for again when it ends, and the end of a build is not remembered as an answer.
func TestKept(t *testing.T) {
	t.Parallel()
	n := 0
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		w.Header().Set("Metadata-Flavor", "Google")
		fmt.Fprintf(w, `{"access_token":"t%d","expires_in":30}`, n)
	})
	h := helpers(t, map[string]string{"GCE_METADATA_HOST": s.host()})
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := h.Login(ended, "gcr.io"); err == nil {
		t.Error("no error after the end")
	}
	for _, want := range []string{"t1", "t2"} {
		if got, err := h.Login(t.Context(), "gcr.io"); err != nil || got.Password != want {
			t.Errorf("%q, %v; want %q", got.Password, err, want)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", Login{Username: "u", Password: secret}, Login{IdentityToken: secret}, Login{Password: secret}); strings.Contains(text, secret) {
		t.Error(text)
	}
}
