package cloud

import (
	"fmt"
	"net/http"
	"testing"
)

// azure gives tokens, and is a registry that exchanges them.
func azure(t *testing.T) *service {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		f := r.Form.Get
		switch r.URL.Path {
		case "/tenant/oauth2/v2.0/token":
			assertion := f("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" && f("client_assertion") == secret
			if f("grant_type") == "client_credentials" && f("client_id") == "client" && f("scope") == acrAudience+"/.default" && (f("client_secret") == secret || assertion) {
				fmt.Fprint(w, `{"access_token":"aad","expires_in":3599}`)
				return
			}
		case "/metadata/identity/oauth2/token":
			if r.Header.Get("Metadata") == "true" && f("resource") == acrAudience && (f("client_id") == "" || f("client_id") == "client") {
				fmt.Fprint(w, `{"access_token":"aad","expires_in":"3599"}`)
				return
			}
		case "/oauth2/exchange":
			if f("grant_type") == "access_token" && f("service") == "app.azurecr.io" && f("access_token") == "aad" && (f("tenant") == "" || f("tenant") == "tenant") {
				fmt.Fprintf(w, `{"refresh_token":%q}`, secret)
				return
			}
		}
		refuseAll(w, r)
	})
}

func TestACR(t *testing.T) {
	t.Parallel()
	s := azure(t)
	for name, vars := range map[string]map[string]string{
		"secret": {
			"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": secret, "AZURE_AUTHORITY_HOST": s.URL + "/",
		},
		"federated": {
			"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_FEDERATED_TOKEN_FILE": file(t, secret), "AZURE_AUTHORITY_HOST": s.URL,
		},
		"machine":          {"AZURE_POD_IDENTITY_AUTHORITY_HOST": s.URL},
		"machine's client": {"AZURE_POD_IDENTITY_AUTHORITY_HOST": s.URL, "AZURE_CLIENT_ID": "client"},
	} {
		t.Log(name)
		h := helpers(t, vars)
		h.acr = func(string) string { return s.URL }
		wantLogin(t, h, "app.azurecr.io", acrUser, secret)
		if got, _ := h.Login(t.Context(), "app.azurecr.io"); got.IdentityToken != secret {
			t.Errorf("%s: no identity token", name)
		}
	}
}

func TestACRRefused(t *testing.T) {
	t.Parallel()
	s := azure(t)
	vars := map[string]string{"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": "old-" + secret, "AZURE_AUTHORITY_HOST": s.URL}
	refused := func(words ...string) {
		t.Helper()
		h := helpers(t, vars)
		h.acr = func(string) string { return s.URL }
		wantRefusal(t, h, "app.azurecr.io", words...)
	}
	refused("helper acr: AZURE_CLIENT_SECRET: ", "403 Forbidden (invalid_grant)", "check AZURE_TENANT_ID")
	vars["AZURE_CLIENT_SECRET"] = secret
	s.handle = func(old func(http.ResponseWriter, *http.Request)) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/oauth2/exchange" {
				refuseAll(w, r)
				return
			}
			old(w, r)
		}
	}(s.handle)
	refused("helper acr: AZURE_CLIENT_SECRET: ", "the role AcrPull or AcrPush")
	delete(vars, "AZURE_CLIENT_SECRET")
	vars["AZURE_FEDERATED_TOKEN_FILE"] = "/nowhere"
	refused("AZURE_FEDERATED_TOKEN_FILE: open /nowhere")
	vars = map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": s.URL, "AZURE_CLIENT_ID": "another"}
	refused("AZURE_CLIENT_ID: ", "403 Forbidden")

	for host, want := range map[string]string{
		"a.azurecr.io": "https://login.microsoftonline.com", "a.azurecr.cn": "https://login.chinacloudapi.cn", "a.azurecr.us": "https://login.microsoftonline.us",
	} {
		if got := azureLogins(host); got != want {
			t.Errorf("azureLogins(%s) = %s", host, got)
		}
	}
}
