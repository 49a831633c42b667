package cloud

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/forge-build/forge/internal/sigv4"
)

// awsKey finds the job's key, as Amazon's own tools do, and what it was found by: variables, the token of a pod, a file, an agent beside the
// container, the machine. The key has no ID if there is none.
func (h *Helpers) awsKey(ctx context.Context, r ecrHost) (key sigv4.Key, by string, err error) {
	key = sigv4.Key{ID: h.env("AWS_ACCESS_KEY_ID"), Secret: h.env("AWS_SECRET_ACCESS_KEY"), Session: h.env("AWS_SESSION_TOKEN")}
	if key.ID != "" && key.Secret != "" {
		return key, "AWS_ACCESS_KEY_ID", nil
	}
	if r.account == "" { // a registry that everybody may read is worth no search
		return sigv4.Key{}, "", nil
	}
	if file, role := h.env("AWS_WEB_IDENTITY_TOKEN_FILE"), h.env("AWS_ROLE_ARN"); file != "" && role != "" {
		by = "AWS_WEB_IDENTITY_TOKEN_FILE"
		if key, err = h.awsWebIdentity(ctx, r, file, role); err != nil {
			err = refuse(ctx, by, err, "check that the role AWS_ROLE_ARN trusts who gave the token")
		}
		return key, by, err
	}
	if key, by, err = h.awsFile(); key.ID != "" || err != nil {
		return key, by, err
	}
	if relative, full := h.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), h.env("AWS_CONTAINER_CREDENTIALS_FULL_URI"); relative+full != "" {
		by = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
		if relative != "" {
			by, full = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "http://169.254.170.2"+relative
		}
		if key, err = h.awsContainer(ctx, full); err != nil {
			err = refuse(ctx, by, err, "check the role of the task or pod")
		}
		return key, by, err
	}
	if strings.EqualFold(h.env("AWS_EC2_METADATA_DISABLED"), "true") {
		return sigv4.Key{}, "", nil
	}
	return h.awsMachine(ctx), "the role of this machine", nil
}

// awsKeyAnswer is a key as an agent and the metadata server write it.
type awsKeyAnswer struct {
	ID     string `json:"AccessKeyId"`
	Secret string `json:"SecretAccessKey"`
	Token  string
}

func (a awsKeyAnswer) key() sigv4.Key {
	return sigv4.Key{ID: a.ID, Secret: a.Secret, Session: a.Token}
}

// awsFile reads the key of a profile from the file that aws configure writes. The key has no ID if it is not there.
func (h *Helpers) awsFile() (key sigv4.Key, path string, err error) {
	home := h.env("HOME")
	path = cmp.Or(h.env("AWS_SHARED_CREDENTIALS_FILE"), filepath.Join(home, ".aws/credentials"))
	if home == "" && path == ".aws/credentials" {
		return key, path, nil
	}
	text, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return key, path, nil
	}
	if err != nil {
		return key, path, &refusal{by: path, cause: err.Error(), next: "make it readable"}
	}
	profile, section := cmp.Or(h.env("AWS_PROFILE"), "default"), ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSpace(strings.TrimSuffix(name, "]"))
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || section != profile {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			key.ID = value
		case "aws_secret_access_key":
			key.Secret = value
		case "aws_session_token":
			key.Session = value
		}
	}
	if key.ID == "" || key.Secret == "" {
		return sigv4.Key{}, path, nil // of another kind of profile
	}
	return key, path, nil
}

// awsWebIdentity exchanges the token in a file for a key of a role (STS, AssumeRoleWithWebIdentity).
func (h *Helpers) awsWebIdentity(ctx context.Context, r ecrHost, file, role string) (sigv4.Key, error) {
	token, err := readSecret(file)
	if err != nil {
		return sigv4.Key{}, err
	}
	region := cmp.Or(h.env("AWS_REGION"), h.env("AWS_DEFAULT_REGION"), r.region)
	a, err := h.ask200(ctx, question{
		method:  http.MethodPost,
		address: cmp.Or(h.env("AWS_ENDPOINT_URL_STS"), h.env("AWS_ENDPOINT_URL"), "https://sts."+region+"."+r.domain+"/"),
		form: url.Values{
			"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {role},
			"RoleSessionName": {cmp.Or(h.env("AWS_ROLE_SESSION_NAME"), "forge")}, "WebIdentityToken": {token},
		},
	})
	if err != nil {
		return sigv4.Key{}, err
	}
	var said struct {
		Credentials struct {
			ID     string `xml:"AccessKeyId"`
			Secret string `xml:"SecretAccessKey"`
			Token  string `xml:"SessionToken"`
		} `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
	}
	if xml.Unmarshal(a.raw, &said) != nil || said.Credentials.ID == "" {
		return sigv4.Key{}, errNoToken
	}
	c := said.Credentials
	return sigv4.Key{ID: c.ID, Secret: c.Secret, Session: c.Token}, nil
}

// awsContainer asks the agent of ECS or EKS.
func (h *Helpers) awsContainer(ctx context.Context, address string) (sigv4.Key, error) {
	token := h.env("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	if file := h.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
		var err error
		if token, err = readSecret(file); err != nil {
			return sigv4.Key{}, err
		}
	}
	if strings.ContainsAny(token, "\r\n") {
		return sigv4.Key{}, errors.New("the token in AWS_CONTAINER_AUTHORIZATION_TOKEN has more than one line")
	}
	var said awsKeyAnswer
	err := h.askJSON(ctx, question{reach: near, method: http.MethodGet, address: address, bearer: token}, &said)
	if err == nil && said.ID == "" {
		err = errNoToken
	}
	return said.key(), err
}

// awsMachine asks the metadata server of a machine in EC2 (IMDSv2); on others there is none.
func (h *Helpers) awsMachine(ctx context.Context) sigv4.Key {
	base := strings.TrimSuffix(cmp.Or(h.env("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "http://169.254.169.254"), "/") + "/latest/"
	session, err := h.ask200(ctx, question{
		reach: metadata, method: http.MethodPut, address: base + "api/token", body: []byte{},
		header: http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"300"}},
	})
	if err != nil || len(session.raw) == 0 || strings.ContainsAny(string(session.raw), "\r\n") {
		return sigv4.Key{}
	}
	q := question{
		reach: metadata, method: http.MethodGet, address: base + "meta-data/iam/security-credentials/",
		header: http.Header{"X-Aws-Ec2-Metadata-Token": {string(session.raw)}},
	}
	roles, err := h.ask200(ctx, q)
	if err != nil {
		return sigv4.Key{} // the machine has no role
	}
	role, _, _ := strings.Cut(strings.TrimSpace(string(roles.raw)), "\n")
	q.address += url.PathEscape(role)
	var said awsKeyAnswer
	if role == "" || h.askJSON(ctx, q, &said) != nil {
		return sigv4.Key{}
	}
	return said.key()
}
