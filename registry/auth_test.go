package registry_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// trust makes the registry's certificate known to this process.
func trust(t *testing.T, home string, s *httptest.Server) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	write(t, filepath.Join(home, ".config/containers/certs.d", s.Listener.Addr().String(), "ca.crt"), string(text))
}

// A tokenService gives tokens, and a registry wants them.
type tokenService struct {
	realm    string // where it says it is
	user     string // name:password that it knows; "" is everybody
	identity string // identity token that it knows
	expires  int    // seconds
	onlyPost bool
	uses     int // requests that a token is good for; 0 is any number

	mu     sync.Mutex
	given  int
	used   map[int]int
	scopes []string
	seen   []string // Authorization headers and forms
}

// guard wants a token for everything but the service itself, at /token of the registry.
func (s *tokenService) guard(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if r.URL.Path == "/token" {
		s.ServeHTTP(w, r)
		return
	}
	if s.valid(r.Header.Get("Authorization")) {
		next.ServeHTTP(w, r)
		return
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="test, the \"service\"",scope="repository:app:pull"`, s.realm))
	w.WriteHeader(401)
}

func (s *tokenService) valid(authorization string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int
	if _, err := fmt.Sscanf(authorization, "Bearer token-%d", &n); err != nil || n < 1 || n > s.given {
		return false
	}
	if s.used == nil {
		s.used = map[int]int{}
	}
	s.used[n]++
	return s.uses == 0 || s.used[n] <= s.uses
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r.Header.Get("Authorization")+" "+r.PostForm.Encode())
	s.scopes = append(s.scopes, strings.Join(r.Form["scope"], " "))
	name, password, _ := r.BasicAuth()
	ok := s.user == "" || name+":"+password == s.user || r.PostForm.Get("username")+":"+r.PostForm.Get("password") == s.user
	if s.identity != "" {
		ok = r.PostForm.Get("grant_type") == "refresh_token" && r.PostForm.Get("refresh_token") == s.identity
	}
	switch {
	case s.onlyPost && r.Method != http.MethodPost:
		w.WriteHeader(405)
	case !ok, r.Form.Get("service") != `test, the "service"`:
		w.WriteHeader(401)
	default:
		s.given++
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprintf("token-%d", s.given), "expires_in": s.expires})
	}
}

func TestBearer(t *testing.T) {
	ann := &registry.Credential{Username: "ann", Password: "secret"}
	for name, test := range map[string]struct {
		service *tokenService
		cred    *registry.Credential
		want    string // of the error
	}{
		"anonymous":           {&tokenService{expires: 300}, nil, ""},
		"password by GET":     {&tokenService{user: "ann:secret", expires: 300}, ann, ""},
		"password by POST":    {&tokenService{user: "ann:secret", onlyPost: true, expires: 300}, ann, ""},
		"identity token":      {&tokenService{identity: "idt", expires: 300}, &registry.Credential{IdentityToken: "idt"}, ""},
		"tokens that expire":  {&tokenService{user: "ann:secret", expires: 1}, ann, ""},
		"tokens taken back":   {&tokenService{user: "ann:secret", expires: 300, uses: 6}, ann, ""},
		"wrong password":      {&tokenService{user: "ann:other"}, ann, "forge login"},
		"no password":         {&tokenService{user: "ann:other"}, nil, "forge login"},
		"without expiry date": {&tokenService{user: "ann:secret"}, ann, ""},
	} {
		t.Run(name, func(t *testing.T) {
			home := registrytest.Home(t)
			r := registrytest.NewTLS(t)
			trust(t, home, r.Server)
			ref := r.Ref(t, "app:1")
			src := registrytest.NewMemory()
			d := src.AddImage(t, 1, amd64, false, 1000, 2000)
			test.service.realm = r.URL + "/token"
			r.Fault(fault{Do: test.service.guard})
			repo := connect(t, ref, registry.Options{Credential: test.cred})
			_, err := registry.Copy(t.Context(), repo, src, d, registry.CopyOptions{Name: ref})
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
					t.Errorf("error %v, want one with %q and no password", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pull(t.Context(), connect(t, ref, registry.Options{Credential: test.cred}), registry.CopyOptions{}); err != nil {
				t.Error(err)
			}
			if s := test.service.scopes[0]; s != "repository:app:pull,push" && s != "repository:app:pull,push repository:app:pull" {
				t.Errorf("scope of a push is %q", s)
			}
			if most := 2; test.service.expires == 300 && test.service.uses == 0 && test.service.given > most {
				t.Errorf("%d tokens for a push and a pull, want %d", test.service.given, most)
			}
		})
	}
}

// TestCredentialsStayAtTheirOrigin counts what other places get to see.
func TestCredentialsStayAtTheirOrigin(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var leaked []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = r.ParseForm()
		if a := r.Header.Get("Authorization") + r.Header.Get("Cookie") + r.Form.Get("password") + r.Form.Get("account"); a != "" {
			leaked = append(leaked, r.Method+" "+r.URL.Path+" "+a)
		}
		w.WriteHeader(http.StatusTeapot)
	}))
	defer other.Close()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	write(t, file, "ann:"+string(hash)+"\n")
	ann := &registry.Credential{Username: "ann", Password: "secret"}
	challenge := func(realm string) registrytest.Do {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`"`)
			w.WriteHeader(401)
		}
	}
	for name, f := range map[string]fault{
		"redirected blob":     {Method: "GET", Path: "/blobs/", Do: registrytest.Redirect(307, other.URL+"/blob")},
		"redirected manifest": {Path: "/manifests/", Do: registrytest.Redirect(302, other.URL+"/manifest")},
		"redirect with user":  {Path: "/manifests/", Do: registrytest.Redirect(302, strings.Replace(other.URL, "http://", "http://ann:secret@", 1))},
		"upload elsewhere":    {Method: "POST", Do: registrytest.Redirect(202, other.URL+"/upload")},
		"realm elsewhere":     {Do: challenge(other.URL + "/token")},
	} {
		r := registrytest.NewAuth(t, file)
		ref := r.Ref(t, "app:1")
		repo := connect(t, ref, registry.Options{Credential: ann})
		src := registrytest.NewMemory()
		d := src.AddImage(t, 1, amd64, false, 1000)
		if _, err := registry.Copy(t.Context(), repo, src, d, registry.CopyOptions{Name: ref}); err != nil {
			t.Fatal(err)
		}
		r.Fault(f)
		fresh := connect(t, ref, registry.Options{Credential: ann})
		_, err := pull(t.Context(), fresh, registry.CopyOptions{})
		if f.Method != "POST" && err == nil {
			t.Errorf("%s: pulled in spite of it", name)
		}
		d2 := src.AddImage(t, 2, amd64, false, 1000)
		if _, err := registry.Copy(t.Context(), fresh, src, d2, registry.CopyOptions{}); f.Method == "POST" && err == nil {
			t.Errorf("%s: pushed in spite of it", name)
		}
	}
	if len(leaked) > 0 {
		t.Errorf("credentials seen elsewhere: %q", leaked)
	}
}

// TestCredentialIsOfOneRegistry uses one client for two registries.
func TestCredentialIsOfOneRegistry(t *testing.T) {
	t.Parallel()
	a, b := registrytest.New(t), registrytest.New(t)
	for _, r := range []*registrytest.Registry{a, b} {
		r.Fault(fault{Do: func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("WWW-Authenticate", "Basic realm=x")
			w.WriteHeader(401)
		}})
	}
	client := registry.NewClient(registry.Options{Limits: quick, Credential: &registry.Credential{Username: "ann", Password: "secret"}})
	for _, r := range []*registrytest.Registry{a, b} {
		repo, err := client.Connect(r.Ref(t, "app:1"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = repo.Tags(t.Context())
		shown := false
		for _, q := range r.Requests("", "") {
			shown = shown || q.Authorization != ""
		}
		if shown != (r == a) {
			t.Errorf("credential shown: %t, to the first registry: %t", shown, r == a)
		}
	}
}

func TestBasic(t *testing.T) {
	home := registrytest.Home(t)
	auth := filepath.Join(t.TempDir(), "htpasswd")
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	write(t, auth, "ann:"+string(hash)+"\n")
	for name, host := range map[string]string{
		"ours":            registrytest.NewAuth(t, auth).Host(),
		"docker-registry": registrytest.DockerRegistry(t, "auth:\n  htpasswd:\n    realm: test\n    path: "+auth+"\n"),
	} {
		t.Run(name, func(t *testing.T) {
			ref := registrytest.Ref(t, host+"/app:1")
			anonymous := connect(t, ref, registry.Options{})
			if _, err := anonymous.Resolve(t.Context(), ref); err == nil || !contains(err.Error(), ref.String(), "forge login "+host) {
				t.Errorf("without a login: %v", err)
			}
			client := registry.NewClient(registry.Options{Limits: quick})
			if _, err := client.Login(t.Context(), host, registry.Credential{Username: "ann", Password: "wrong"}); err == nil ||
				!strings.Contains(err.Error(), "check the user name and the password") || strings.Contains(err.Error(), "wrong") {
				t.Errorf("login with a wrong password: %v", err)
			}
			in, err := client.Login(t.Context(), host, registry.Credential{Username: "ann", Password: "secret"})
			if err != nil || in != filepath.Join(home, ".docker/config.json") {
				t.Fatalf("Login = %+v, %v", in, err)
			}
			put(t, ref, 1, 1000)
			if _, err := pull(t.Context(), connect(t, ref, registry.Options{}), registry.CopyOptions{}); err != nil {
				t.Error(err)
			}
			if had, err := client.Logout(t.Context(), host); err != nil || !had {
				t.Errorf("Logout = %t, %v", had, err)
			}
			if had, err := client.Logout(t.Context(), host); err != nil || had {
				t.Errorf("second Logout = %t, %v", had, err)
			}
			if _, err := connect(t, ref, registry.Options{}).Resolve(t.Context(), ref); err == nil {
				t.Error("resolved after the logout")
			}
		})
	}
}

func TestTLS(t *testing.T) {
	home := registrytest.Home(t)
	r := registrytest.NewTLS(t)
	ref := r.Ref(t, "app:1")
	_, err := connect(t, ref, registry.Options{}).Resolve(t.Context(), ref)
	if err == nil || !contains(err.Error(), "certificate", "/etc/docker/certs.d/"+r.Host()) {
		t.Errorf("unknown authority: %v", err)
	}
	write(t, filepath.Join(home, "registries.conf"), "[[registry]]\nlocation = \""+r.Host()+"\"\ninsecure = true\n")
	if _, err := connect(t, ref, registry.Options{}).Tags(t.Context()); err == nil || !strings.Contains(err.Error(), "NAME_UNKNOWN") {
		t.Errorf("insecure by configuration: %v, want the registry's answer", err)
	}
	write(t, filepath.Join(home, "registries.conf"), "")
	trust(t, home, r.Server)
	put(t, ref, 1, 1000)
}

func TestPlainOnlyOnLoopback(t *testing.T) {
	t.Parallel()
	ref := registrytest.Ref(t, "registry.invalid:5000/app:1")
	_, err := connect(t, ref, registry.Options{}).Resolve(t.Context(), ref)
	if err == nil || !contains(err.Error(), ref.String(), "check the name and the network") {
		t.Errorf("unknown host: %v", err)
	}
}
