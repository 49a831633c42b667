package cloud

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const googleUser = "oauth2accesstoken"

func jsonFile(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, string(raw))
}

// serviceAccount is the file of a service account, whose key is also given.
func serviceAccount(t *testing.T, tokens string) (path string, key *rsa.PublicKey) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return jsonFile(t, map[string]string{
		"type": "service_account", "client_email": "ci@project", "private_key_id": "kid", "token_uri": tokens,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}), &private.PublicKey
}

func TestGoogleServiceAccount(t *testing.T) {
	t.Parallel()
	var key *rsa.PublicKey
	s := serve(t, nil)
	s.handle = func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.PostFormValue("assertion"), ".")
		sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
		claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
		var said struct {
			Iss, Scope, Aud string
			Iat, Exp        int64
		}
		_ = json.Unmarshal(claims, &said)
		if r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) != nil ||
			said.Iss != "ci@project" || said.Aud != s.URL+"/token" || said.Scope != googleScope || said.Exp-said.Iat != 3600 {
			refuseAll(w, r)
			return
		}
		fmt.Fprint(w, `{"access_token":"token","expires_in":3599}`)
	}
	path, public := serviceAccount(t, s.URL+"/token")
	key = public
	h := helpers(t, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": path})
	for _, host := range []string{"gcr.io", "eu.gcr.io", "europe-docker.pkg.dev"} {
		wantLogin(t, h, host, googleUser, "token")
	}
	if len(s.asked) != 3 {
		t.Errorf("asked %v, and what was answered is kept", s.asked)
	}
	other, _ := serviceAccount(t, s.URL+"/token")
	wantRefusal(t, helpers(t, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": other}), "gcr.io",
		"helper google: GOOGLE_APPLICATION_CREDENTIALS: ", "403 Forbidden (invalid_grant)", "a key that is valid")
}

func TestGoogleFiles(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("grant_type") != "refresh_token" || r.PostFormValue("refresh_token") != secret || r.PostFormValue("client_secret") != secret {
			refuseAll(w, r)
			return
		}
		fmt.Fprint(w, `{"access_token":"token"}`)
	})
	user := map[string]string{"type": "authorized_user", "client_id": "c", "client_secret": secret, "refresh_token": secret, "token_uri": s.URL}
	wantLogin(t, helpers(t, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": jsonFile(t, user)}), "gcr.io", googleUser, "token")

	raw, _ := json.Marshal(user)
	config := t.TempDir()
	if err := os.WriteFile(filepath.Join(config, "application_default_credentials.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	wantLogin(t, helpers(t, map[string]string{"CLOUDSDK_CONFIG": config}), "gcr.io", googleUser, "token")

	for _, test := range []struct{ text, want string }{
		{`{"type":"gdch_service_account"}`, `credentials of type "gdch_service_account" are not read`},
		{`{"type":"service_account","private_key":"` + secret + `"}`, "private_key is not PEM"},
		{`{"type":"external_account","credential_source":{"environment_id":"aws1","url":"http://169.254.169.254/x"}}`, "not with one of AWS or a program"},
		{secret, "is not a JSON file of credentials"},
		{"", "is empty"},
	} {
		wantRefusal(t, helpers(t, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": file(t, test.text)}), "gcr.io", test.want)
	}
	wantRefusal(t, helpers(t, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"}), "gcr.io", "open /nowhere")
}

func TestGoogleFederated(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/job" && r.Header.Get("Authorization") == "bearer "+secret:
			fmt.Fprintf(w, `{"value":%q}`, secret)
		case r.URL.Path == "/sts" && r.PostFormValue("subject_token") == secret && r.PostFormValue("audience") == "aud" &&
			r.PostFormValue("grant_type") == "urn:ietf:params:oauth:grant-type:token-exchange":
			fmt.Fprint(w, `{"access_token":"federated","expires_in":3600}`)
		case r.URL.Path == "/account" && r.Header.Get("Authorization") == "Bearer federated":
			fmt.Fprint(w, `{"accessToken":"account","expireTime":"2999-01-01T00:00:00Z"}`)
		default:
			refuseAll(w, r)
		}
	})
	external := map[string]any{
		"type": "external_account", "audience": "aud", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": s.URL + "/sts",
		"credential_source": map[string]any{"file": file(t, secret)},
	}
	wantLogin(t, helpers(t, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": jsonFile(t, external)}), "gcr.io", googleUser, "federated")
	external["service_account_impersonation_url"] = s.URL + "/account"
	external["credential_source"] = map[string]any{
		"url": s.URL + "/job", "headers": map[string]string{"Authorization": "bearer " + secret},
		"format": map[string]string{"type": "json", "subject_token_field_name": "value"},
	}
	wantLogin(t, helpers(t, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": jsonFile(t, external)}), "gcr.io", googleUser, "account")
	external["audience"] = "other"
	wantRefusal(t, helpers(t, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": jsonFile(t, external)}), "gcr.io", "invalid_grant")
}

func TestGoogleMachine(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		if r.Header.Get("Metadata-Flavor") != "Google" || r.URL.Path != "/computeMetadata/v1/instance/service-accounts/default/token" {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		fmt.Fprint(w, `{"access_token":"token","expires_in":3599}`)
	})
	vars := map[string]string{"GCE_METADATA_HOST": s.host()}
	wantLogin(t, helpers(t, vars), "gcr.io", googleUser, "token")
	status = http.StatusNotFound // a machine without an account
	wantLogin(t, helpers(t, vars), "gcr.io", "", "")
	status = http.StatusForbidden
	wantRefusal(t, helpers(t, vars), "gcr.io", "helper google: the service account of this machine: ", "403 Forbidden")
}
