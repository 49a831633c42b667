package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/forge-build/forge"
)

// authRoutes are about the credentials of registries, which a client sends with each request: the server keeps none.
func authRoutes() []route {
	return []route{{method: http.MethodPost, pattern: "/auth", do: login}}
}

// An authConfig is what a client sends of a registry.
type authConfig struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of name:password
	ServerAddress string `json:"serveraddress"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// credential is what the registry is told.
func (a *authConfig) credential() (forge.Credential, error) {
	cred := forge.Credential{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Auth != "" && a.Username == "" {
		raw, err := base64.StdEncoding.DecodeString(a.Auth)
		name, password, ok := strings.Cut(string(raw), ":")
		if err != nil || !ok {
			return cred, errors.New("auth is not base64 of NAME:PASSWORD")
		}
		cred.Username, cred.Password = name, password
	}
	return cred, nil
}

// login asks a registry whether it knows a user.
func login(c *call) error {
	var a authConfig
	if err := c.read(&a, bodyRequired); err != nil {
		return err
	}
	cred, err := a.credential()
	if err != nil {
		return invalid(err)
	}
	host := a.ServerAddress
	if host == "" {
		host = "docker.io"
	}
	token, err := forge.VerifyLogin(c.ctx(), host, cred, forge.RemoteOptions{})
	if errors.Is(err, fs.ErrPermission) {
		return &statusError{code: http.StatusUnauthorized, text: textOf(err)}
	}
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]string{"Status": "Login Succeeded", "IdentityToken": token})
}

// Headers with credentials, in base64 of JSON: of one registry, and of several by host.
const (
	registryAuth   = "X-Registry-Auth"
	registryConfig = "X-Registry-Config"
)

// remote are the credentials of the request. One that does not say of which registry it is belongs to that of the image which is asked for.
func (c *call) remote() (o forge.RemoteOptions, err error) {
	o.Credentials = map[string]forge.Credential{}
	all := map[string]authConfig{}
	if err := c.header(registryConfig, &all); err != nil {
		return o, err
	}
	if all == nil { // the client has sent null
		all = map[string]authConfig{}
	}
	var one authConfig
	if err := c.header(registryAuth, &one); err != nil {
		return o, err
	}
	if one != (authConfig{}) {
		host := one.ServerAddress
		if name := c.name + c.query.Get("fromImage"); host == "" && name != "" {
			if host, err = forge.RegistryOf(name); err != nil {
				return o, invalid(err)
			}
		}
		all[host] = one
	}
	for host, a := range all {
		cred, err := a.credential()
		if err != nil {
			return o, invalid(fmt.Errorf("credentials of %s: %w", host, err))
		}
		if cred != (forge.Credential{}) {
			o.Credentials[forge.RegistryHost(host)] = cred
		}
	}
	return o, nil
}

// header reads a header of base64 of JSON, with either alphabet and with or without padding.
func (c *call) header(name string, v any) error {
	text := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(c.r.Header.Get(name)), "=")
	if text == "" {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return invalid(errors.New(name + " is not base64 of JSON")) // the cause may quote a password
	}
	return nil
}
