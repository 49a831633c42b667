package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// A googleExternal is a file of type external_account: a token of somebody else's, such as a CI system's, is exchanged for one of Google's.
type googleExternal struct {
	Audience    string `json:"audience"`
	TokenType   string `json:"subject_token_type"`
	TokenURL    string `json:"token_url"`
	Impersonate string `json:"service_account_impersonation_url"`

	Source struct {
		Environment string            `json:"environment_id"`
		File        string            `json:"file"`
		URL         string            `json:"url"`
		Headers     map[string]string `json:"headers"`
		Format      struct {
			Type  string `json:"type"`
			Field string `json:"subject_token_field_name"`
		} `json:"format"`
	} `json:"credential_source"`
}

// googleFederated exchanges the other's token (RFC 8693), and that for one of a service account if the file names one.
func (h *Helpers) googleFederated(ctx context.Context, e googleExternal) (t googleToken, err error) {
	subject, err := h.googleSubject(ctx, e)
	if err != nil {
		return t, err
	}
	err = h.askJSON(ctx, question{method: http.MethodPost, address: e.TokenURL, form: url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {e.Audience}, "scope": {googleScope},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "subject_token": {subject}, "subject_token_type": {e.TokenType},
	}}, &t)
	if err != nil || t.AccessToken == "" || e.Impersonate == "" {
		return t, err
	}
	body, err := json.Marshal(map[string]any{"scope": []string{googleScope}, "lifetime": "3600s"})
	if err != nil {
		return t, err
	}
	var account struct {
		AccessToken string    `json:"accessToken"`
		ExpireTime  time.Time `json:"expireTime"`
	}
	err = h.askJSON(ctx, question{
		method: http.MethodPost, address: e.Impersonate, body: body, bearer: "Bearer " + t.AccessToken,
		header: http.Header{"Content-Type": {"application/json"}},
	}, &account)
	return googleToken{account.AccessToken, int64(time.Until(account.ExpireTime).Seconds())}, err
}

// googleSubject gets the other's token from a file or from an address.
func (h *Helpers) googleSubject(ctx context.Context, e googleExternal) (string, error) {
	s := e.Source
	text := ""
	switch {
	case s.File != "":
		var err error
		if text, err = readSecret(s.File); err != nil {
			return "", err
		}
	case s.URL != "" && s.Environment == "":
		header := http.Header{}
		for name, value := range s.Headers {
			header.Set(name, value)
		}
		authorization := header.Get("Authorization")
		header.Del("Authorization")
		a, err := h.ask200(ctx, question{method: http.MethodGet, address: s.URL, header: header, bearer: authorization})
		if err != nil {
			return "", err
		}
		text = string(a.raw)
	default:
		return "", errors.New("external_account is read with a credential_source that is a file or a url, not with one of AWS or a program")
	}
	if s.Format.Type != "json" {
		return text, nil
	}
	var fields map[string]any
	if json.Unmarshal([]byte(text), &fields) != nil {
		return "", errors.New("the credential_source is not JSON, as its format says")
	}
	token, _ := fields[s.Format.Field].(string)
	if token == "" {
		return "", errors.New("the credential_source has no token in the field that its format names")
	}
	return token, nil
}
