package cloud

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/forge-build/forge/internal/sigv4"
)

// An ecrHost is what the name of a registry of Amazon says.
type ecrHost struct {
	account string // "" is the public registry
	service string // ecr, ecr-fips or ecr-public
	region  string
	domain  string // amazonaws.com or amazonaws.com.cn
}

// parseECR reads ACCOUNT.dkr.ecr.REGION.amazonaws.com.
func parseECR(host string) (ecrHost, bool) {
	if host == "public.ecr.aws" {
		return ecrHost{service: "ecr-public", region: "us-east-1", domain: "amazonaws.com"}, true
	}
	for _, domain := range []string{"amazonaws.com", "amazonaws.com.cn"} {
		rest, ok := strings.CutSuffix(host, "."+domain)
		parts := strings.Split(rest, ".")
		if !ok || len(parts) != 4 || parts[1] != "dkr" || parts[2] != "ecr" && parts[2] != "ecr-fips" {
			continue
		}
		if len(parts[0]) != 12 || strings.Trim(parts[0], "0123456789") != "" || !isLabel(parts[3]) {
			continue
		}
		return ecrHost{account: parts[0], service: parts[2], region: parts[3], domain: domain}, true
	}
	return ecrHost{}, false
}

func isLabel(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// endpoint is where the service of a registry is asked.
func (r ecrHost) endpoint(env func(string) string) string {
	variable, host := "AWS_ENDPOINT_URL_ECR", "api.ecr."
	switch r.service {
	case "ecr-public":
		variable, host = "AWS_ENDPOINT_URL_ECR_PUBLIC", "api.ecr-public."
	case "ecr-fips":
		host = "ecr-fips."
	}
	return strings.TrimSuffix(cmp.Or(env(variable), env("AWS_ENDPOINT_URL"), "https://"+host+r.region+"."+r.domain), "/") + "/"
}

// ecrLogin asks the service of a registry for a password (GetAuthorizationToken).
func (h *Helpers) ecrLogin(ctx context.Context, host string) (Login, error) {
	r, ok := parseECR(host)
	if !ok {
		return Login{}, nil
	}
	key, by, err := h.awsKey(ctx, r)
	if err != nil || key.ID == "" {
		return Login{}, err
	}
	token, err := h.ecrToken(ctx, r, key)
	var status *statusError
	if r.account == "" && errors.As(err, &status) {
		return Login{}, nil // everybody may read there; whoever may not write is told so by the registry
	}
	if err != nil {
		return Login{}, refuse(ctx, by, err, "allow its user or role ecr:GetAuthorizationToken in the region "+r.region)
	}
	return token, nil
}

// An ecrToken is what GetAuthorizationToken says of one registry.
type ecrToken struct {
	Token   string  `json:"authorizationToken"` // base64 of name:password
	Expires float64 `json:"expiresAt"`          // seconds since 1970
}

func (h *Helpers) ecrToken(ctx context.Context, r ecrHost, key sigv4.Key) (Login, error) {
	target, body := "AmazonEC2ContainerRegistry_V20150921", fmt.Sprintf(`{"registryIds":[%q]}`, r.account)
	service := "ecr" // also of its hosts that are named ecr-fips
	if r.account == "" {
		target, body, service = "SpencerFrontendService", "{}", "ecr-public"
	}
	q := question{method: http.MethodPost, address: r.endpoint(h.env), body: []byte(body), header: http.Header{}}
	u, err := q.place()
	if err != nil {
		return Login{}, err
	}
	q.header.Set("Content-Type", "application/x-amz-json-1.1")
	q.header.Set("X-Amz-Target", target+".GetAuthorizationToken")
	sum := sha256.Sum256(q.body)
	key.Sign(q.method, u, q.header, sigv4.Scope{Region: r.region, Service: service}, hex.EncodeToString(sum[:]), time.Now())
	q.bearer = q.header.Get("Authorization")
	q.header.Del("Authorization")
	var said struct {
		Data json.RawMessage `json:"authorizationData"` // one, or a list of one
	}
	if err := h.askJSON(ctx, q, &said); err != nil {
		return Login{}, err
	}
	var tokens []ecrToken
	if json.Unmarshal(said.Data, &tokens) != nil {
		tokens = make([]ecrToken, 1)
		_ = json.Unmarshal(said.Data, &tokens[0]) // what has no token is refused below
	}
	if len(tokens) == 0 {
		return Login{}, errNoToken
	}
	raw, err := base64.StdEncoding.DecodeString(tokens[0].Token)
	name, password, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok || name == "" || password == "" {
		return Login{}, errNoToken
	}
	until := time.Unix(int64(tokens[0].Expires), 0)
	if tokens[0].Expires <= 0 {
		until = lifetime(0)
	}
	return Login{Username: name, Password: password, until: until}, nil
}
