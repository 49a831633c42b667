package cloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// acrAudience is what a token of Azure is asked for: registries and nothing else, since the registry sees it.
const acrAudience = "https://containerregistry.azure.net"

// acrUser is the name of whoever comes with a token.
const acrUser = "00000000-0000-0000-0000-000000000000"

func isACR(host string) bool {
	return strings.HasSuffix(host, ".azurecr.io") || strings.HasSuffix(host, ".azurecr.cn") || strings.HasSuffix(host, ".azurecr.us")
}

// azureLogins is where the cloud of a registry gives tokens.
func azureLogins(host string) string {
	switch {
	case strings.HasSuffix(host, ".cn"):
		return "https://login.chinacloudapi.cn"
	case strings.HasSuffix(host, ".us"):
		return "https://login.microsoftonline.us"
	}
	return "https://login.microsoftonline.com"
}

// acrLogin exchanges a token of Azure for one of the registry.
func (h *Helpers) acrLogin(ctx context.Context, host string) (Login, error) {
	token, by, err := h.azureToken(ctx, host)
	if err != nil {
		return Login{}, refuse(ctx, by, err, "check AZURE_TENANT_ID, AZURE_CLIENT_ID and that it has not expired")
	}
	if token == "" {
		return Login{}, nil
	}
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {token}}
	if tenant := h.env("AZURE_TENANT_ID"); tenant != "" {
		form.Set("tenant", tenant)
	}
	var said struct {
		RefreshToken string `json:"refresh_token"`
	}
	err = h.askJSON(ctx, question{method: http.MethodPost, address: h.acr(host) + "/oauth2/exchange", form: form}, &said)
	if err == nil && said.RefreshToken == "" {
		err = errNoToken
	}
	if err != nil {
		return Login{}, refuse(ctx, by, err, "give it the role AcrPull or AcrPush of the registry")
	}
	// The token is good for three hours.
	return Login{Username: acrUser, Password: said.RefreshToken, IdentityToken: said.RefreshToken, until: lifetime(0)}, nil
}

// azureToken finds a token of Azure, and says what it was found by: a secret or a file in variables, or the machine. It is "" if there is none.
func (h *Helpers) azureToken(ctx context.Context, host string) (token, by string, err error) {
	tenant, client, secret := h.env("AZURE_TENANT_ID"), h.env("AZURE_CLIENT_ID"), h.env("AZURE_CLIENT_SECRET")
	file := h.env("AZURE_FEDERATED_TOKEN_FILE")
	if tenant == "" || client == "" || secret == "" && file == "" {
		return h.azureMachine(ctx, client)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "scope": {acrAudience + "/.default"}}
	by = "AZURE_CLIENT_SECRET"
	if secret != "" {
		form.Set("client_secret", secret)
	} else {
		by = "AZURE_FEDERATED_TOKEN_FILE"
		assertion, err := readSecret(file)
		if err != nil {
			return "", by, err
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	}
	authority := strings.TrimSuffix(cmp.Or(h.env("AZURE_AUTHORITY_HOST"), azureLogins(host)), "/")
	if !strings.Contains(authority, "://") {
		authority = "https://" + authority
	}
	var said struct {
		AccessToken string `json:"access_token"`
	}
	err = h.askJSON(ctx, question{method: http.MethodPost, address: authority + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/token", form: form}, &said)
	if err == nil && said.AccessToken == "" {
		err = errNoToken
	}
	return said.AccessToken, by, err
}

// azureMachine asks the metadata server of a machine for the token of an identity, that of client if it is not ""; elsewhere there is none.
func (h *Helpers) azureMachine(ctx context.Context, client string) (token, by string, err error) {
	by = "the managed identity of this machine"
	query := url.Values{"api-version": {"2018-02-01"}, "resource": {acrAudience}}
	if client != "" {
		by = "AZURE_CLIENT_ID"
		query.Set("client_id", client)
	}
	base := strings.TrimSuffix(cmp.Or(h.env("AZURE_POD_IDENTITY_AUTHORITY_HOST"), "http://169.254.169.254"), "/")
	a, err := h.ask200(ctx, question{
		reach: metadata, method: http.MethodGet, address: base + "/metadata/identity/oauth2/token?" + query.Encode(),
		header: http.Header{"Metadata": {"true"}},
	})
	var status *statusError
	if client != "" && errors.As(err, &status) {
		return "", by, err // an identity was named
	}
	var said struct {
		AccessToken string `json:"access_token"`
	}
	if err != nil || json.Unmarshal(a.raw, &said) != nil {
		return "", by, nil //nolint:nilerr // another's address, or a machine without an identity
	}
	return said.AccessToken, by, nil
}
