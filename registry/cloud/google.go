package cloud

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// googleScope is what a token is asked for: registries know no smaller one that may push.
const googleScope = "https://www.googleapis.com/auth/cloud-platform"

const googleTokens = "https://oauth2.googleapis.com/token"

func isGoogle(host string) bool {
	return host == "gcr.io" || strings.HasSuffix(host, ".gcr.io") || strings.HasSuffix(host, ".pkg.dev")
}

// A googleToken is what Google's token services answer.
type googleToken struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int64  `json:"expires_in"`
}

func (t googleToken) login() Login {
	return Login{Username: "oauth2accesstoken", Password: t.AccessToken, until: lifetime(t.ExpiresIn)}
}

// googleLogin finds an access token as Google's "application default credentials" do: from a file, or from the machine.
func (h *Helpers) googleLogin(ctx context.Context, _ string) (Login, error) {
	by, path := "GOOGLE_APPLICATION_CREDENTIALS", h.env("GOOGLE_APPLICATION_CREDENTIALS")
	if path == "" {
		if path = h.gcloudFile(); path == "" {
			return h.googleMachine(ctx)
		}
		by = path
	}
	t, err := h.googleFile(ctx, path)
	if err == nil && t.AccessToken == "" {
		err = errNoToken
	}
	if err != nil {
		return Login{}, refuse(ctx, by, err, "give it the file of a key that is valid")
	}
	return t.login(), nil
}

// gcloudFile is where gcloud keeps a login of programs, "" if there is none.
func (h *Helpers) gcloudFile() string {
	dir := h.env("CLOUDSDK_CONFIG")
	if home := h.env("HOME"); dir == "" && home != "" {
		dir = filepath.Join(home, ".config/gcloud")
	}
	path := filepath.Join(dir, "application_default_credentials.json")
	if _, err := os.Stat(path); dir == "" || errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return path
}

// A googleKey is a file of credentials, of any type.
type googleKey struct {
	Type     string `json:"type"`
	TokenURI string `json:"token_uri"`

	ClientEmail  string `json:"client_email"` // of a service_account
	PrivateKey   string `json:"private_key"`
	PrivateKeyID string `json:"private_key_id"`

	ClientID     string `json:"client_id"` // of an authorized_user
	ClientSecret string `json:"client_secret"`
	RefreshToken string `json:"refresh_token"`

	googleExternal
}

// googleFile asks for a token with what a file holds.
func (h *Helpers) googleFile(ctx context.Context, path string) (t googleToken, err error) {
	text, err := readSecret(path)
	if err != nil {
		return t, err
	}
	var key googleKey
	if json.Unmarshal([]byte(text), &key) != nil { // the decoder's error may quote what it read
		return t, fmt.Errorf("%s is not a JSON file of credentials", path)
	}
	var form url.Values
	switch key.Type {
	case "service_account":
		assertion, err := key.assertion(time.Now())
		if err != nil {
			return t, fmt.Errorf("%s: %w", path, err)
		}
		form = url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}
	case "authorized_user":
		form = url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {key.RefreshToken}, "client_id": {key.ClientID}, "client_secret": {key.ClientSecret},
		}
	case "external_account":
		return h.googleFederated(ctx, key.googleExternal)
	default:
		return t, fmt.Errorf("%s: credentials of type %q are not read, but service_account, authorized_user and external_account", path, key.Type)
	}
	return t, h.askJSON(ctx, question{method: http.MethodPost, address: cmp.Or(key.TokenURI, googleTokens), form: form}, &t)
}

// assertion is a JSON web token (RFC 7523) by which a service account says who it is.
func (k *googleKey) assertion(now time.Time) (string, error) {
	block, _ := pem.Decode([]byte(k.PrivateKey))
	if block == nil {
		return "", errors.New("private_key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return "", errors.New("private_key is not an RSA key of PKCS #8 or #1")
		}
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return "", errors.New("private_key is not an RSA key")
	}
	head, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": k.PrivateKeyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": k.ClientEmail, "scope": googleScope, "aud": cmp.Or(k.TokenURI, googleTokens), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), err
}

// googleMachine asks the metadata server of a machine or a pod; elsewhere there is none.
func (h *Helpers) googleMachine(ctx context.Context) (Login, error) {
	host := cmp.Or(h.env("GCE_METADATA_HOST"), "169.254.169.254")
	a, err := h.ask200(ctx, question{
		reach: metadata, method: http.MethodGet, address: "http://" + host + "/computeMetadata/v1/instance/service-accounts/default/token",
		header: http.Header{"Metadata-Flavor": {"Google"}},
	})
	var status *statusError
	if errors.As(err, &status) && status.header.Get("Metadata-Flavor") == "Google" && status.code != http.StatusNotFound {
		return Login{}, refuse(ctx, "the service account of this machine", err, "check that it may be used here")
	}
	var t googleToken
	if err != nil || a.header.Get("Metadata-Flavor") != "Google" || json.Unmarshal(a.raw, &t) != nil || t.AccessToken == "" {
		return Login{}, nil //nolint:nilerr // another's address, or a machine without an account
	}
	return t.login(), nil
}
