package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/internal/web"
)

// maxToken bounds what a token service may answer, in bytes.
const maxToken = 1 << 20

// clientID is how forge calls itself to token services.
const clientID = "forge"

// A tokenAnswer is what token services say: Docker's and OAuth 2's names of the same.
type tokenAnswer struct {
	Token        string    `json:"token"`
	AccessToken  string    `json:"access_token"`
	RefreshToken string    `json:"refresh_token"`
	ExpiresIn    int64     `json:"expires_in"` // seconds; 0 is 60
	IssuedAt     time.Time `json:"issued_at"`
}

// ask gets a token from the realm. The caller holds a.mu.
func (a *authorizer) ask(ctx context.Context, to access) (token, error) {
	cred, err := a.credential(ctx, to.repo)
	if err != nil {
		return token{}, err
	}
	if cred.RegistryToken != "" {
		return token{value: cred.RegistryToken, expiry: time.Now().Add(time.Hour)}, nil
	}
	if !cred.empty() {
		if err := a.trusted(); err != nil {
			return token{}, err
		}
	}
	answer, err := a.exchange(ctx, cred, slices.Concat(to.scopes, a.extra[to.key()]), accessToken)
	if err != nil {
		return token{}, err
	}
	return answer.token()
}

func (t *tokenAnswer) token() (token, error) {
	value := cmp.Or(t.Token, t.AccessToken)
	if value == "" || strings.ContainsAny(value, "\r\n") {
		return token{}, errNoToken
	}
	lifetime := 60 * time.Second // what the specification says where the service does not
	if t.ExpiresIn > 0 {
		lifetime = time.Duration(min(t.ExpiresIn, 24*3600)) * time.Second
	}
	// The service's clock may be wrong: issued_at is not looked at. A tenth is left as a margin.
	return token{value: value, expiry: time.Now().Add(lifetime - lifetime/10)}, nil
}

// A tokenKind says what is asked of a token service.
type tokenKind string

const (
	accessToken   tokenKind = ""
	identityToken tokenKind = "offline" // besides an access token: one to log in with later
)

// exchange asks the realm in the way that the credential allows.
func (a *authorizer) exchange(ctx context.Context, cred Credential, scopes []string, kind tokenKind) (*tokenAnswer, error) {
	if cred.IdentityToken != "" {
		return a.post(ctx, url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {cred.IdentityToken},
		}, scopes)
	}
	answer, err := a.get(ctx, cred, scopes, kind)
	if cred.Username != "" && hasStatus(err, http.StatusNotFound, http.StatusMethodNotAllowed) {
		form := url.Values{"grant_type": {"password"}, "username": {cred.Username}, "password": {cred.Password}}
		if kind == identityToken {
			form.Set("access_type", string(kind))
		}
		return a.post(ctx, form, scopes)
	}
	return answer, err
}

// get is the way of the Docker registry token specification.
func (a *authorizer) get(ctx context.Context, cred Credential, scopes []string, kind tokenKind) (*tokenAnswer, error) {
	u := *a.realm
	q := u.Query()
	if a.service != "" {
		q.Set("service", a.service)
	}
	for _, s := range scopes {
		q.Add("scope", s)
	}
	authorization := ""
	if cred.Username != "" {
		q.Set("account", cred.Username)
		authorization = basicAuth(cred)
	}
	if kind == identityToken {
		q.Set("offline_token", "true")
		q.Set("client_id", clientID)
	}
	u.RawQuery = q.Encode()
	return a.fetch(ctx, &web.Request{Method: http.MethodGet, URL: &u, Authorization: authorization})
}

// post is the way of OAuth 2, as Docker's registries speak it.
func (a *authorizer) post(ctx context.Context, form url.Values, scopes []string) (*tokenAnswer, error) {
	form.Set("client_id", clientID)
	if a.service != "" {
		form.Set("service", a.service)
	}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	body := form.Encode()
	return a.fetch(ctx, &web.Request{
		Method: http.MethodPost, URL: a.realm,
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		Body:   func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil },
		Size:   int64(len(body)),
	})
}

// fetch sends a token request; redirects are not followed, for they would carry credentials along.
func (a *authorizer) fetch(ctx context.Context, req *web.Request) (*tokenAnswer, error) {
	o, u := a.origin, req.URL
	resp, err := o.client.Send(ctx, req, web.NewBudget(o.limits))
	if err != nil {
		return nil, fmt.Errorf("token service %s: %w", u.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		re := refusal("token service "+u.Host, o.name, resp)
		if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
			re.Hint = "log in again: forge login " + o.name
		}
		return nil, web.Refused(re, resp)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxToken+1))
	if err != nil {
		return nil, fmt.Errorf("token service %s: %w", u.Host, err)
	}
	if len(raw) > maxToken {
		return nil, fmt.Errorf("token service %s: %w: its answer is longer than 1 MiB", u.Host, web.ErrRefused)
	}
	var answer tokenAnswer
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("token service %s: %w: its answer is not JSON", u.Host, web.ErrRefused)
	}
	return &answer, nil
}

// verify asks the registry about cred, which the authorizer was given, and returns the identity token that it gave for it, if it gave one.
func (a *authorizer) verify(ctx context.Context, cred Credential) (identity string, err error) {
	resp, err := a.origin.do(ctx, &request{
		method: http.MethodGet, path: "/v2/", name: a.origin.name, want: []int{http.StatusOK},
	})
	if err != nil {
		return "", err
	}
	if err := web.Drain(resp); err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.scheme != "bearer" || cred.IdentityToken != "" {
		return "", nil
	}
	if err := a.trusted(); err != nil {
		return "", err
	}
	answer, err := a.exchange(ctx, cred, nil, identityToken)
	var re *responseError
	if errors.As(err, &re) {
		return "", nil // it does not give any
	}
	if err != nil {
		return "", err
	}
	return answer.RefreshToken, nil
}
