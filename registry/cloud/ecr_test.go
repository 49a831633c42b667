package cloud

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/sigv4"
)

const (
	ecrRegistry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	keyAnswer   = `{"AccessKeyId":"id","SecretAccessKey":"` + secret + `","Token":"session","Code":"Success"}`
)

// ecrService gives passwords of ECR to those who sign with the key of these tests.
func ecrService(t *testing.T) *service {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sum := sha256.Sum256(body)
		when, _ := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		header := http.Header{}
		for _, name := range []string{"Content-Type", "X-Amz-Target"} {
			header.Set(name, r.Header.Get(name))
		}
		service, text := "ecr", `{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d}]}`
		if r.Header.Get("X-Amz-Target") == "SpencerFrontendService.GetAuthorizationToken" {
			service, text = "ecr-public", `{"authorizationData":{"authorizationToken":%q,"expiresAt":%d}}`
		}
		region := strings.Split(r.Header.Get("Authorization"), "/")[2]
		key := sigv4.Key{ID: "id", Secret: secret, Session: r.Header.Get("X-Amz-Security-Token")}
		key.Sign(r.Method, &url.URL{Host: r.Host, Path: "/"}, header, sigv4.Scope{Region: region, Service: service}, hex.EncodeToString(sum[:]), when)
		if header.Get("Authorization") != r.Header.Get("Authorization") {
			refuseAll(w, r)
			return
		}
		if service == "ecr" && string(body) != `{"registryIds":["123456789012"]}` {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, text, base64.StdEncoding.EncodeToString([]byte("AWS:of-"+key.Session+"-"+region)), time.Now().Add(12*time.Hour).Unix())
	})
}

func TestECR(t *testing.T) {
	t.Parallel()
	ecr := ecrService(t)
	sts := serve(t, func(w http.ResponseWriter, r *http.Request) {
		want := "Action=AssumeRoleWithWebIdentity&RoleArn=arn&RoleSessionName=forge&Version=2011-06-15&WebIdentityToken=" + secret
		if _ = r.ParseForm(); r.PostForm.Encode() != want {
			refuseAll(w, r)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
			<Credentials><AccessKeyId>id</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>sts</SessionToken></Credentials>
			</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, secret)
	})
	agent := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != secret {
			refuseAll(w, r)
			return
		}
		fmt.Fprint(w, keyAnswer)
	})
	machine := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") != "":
			fmt.Fprint(w, "imds")
		case r.Header.Get("X-aws-ec2-metadata-token") != "imds":
			refuseAll(w, r)
		case r.URL.Path == "/latest/meta-data/iam/security-credentials/":
			fmt.Fprintln(w, "a-role")
		case r.URL.Path == "/latest/meta-data/iam/security-credentials/a-role":
			fmt.Fprint(w, keyAnswer)
		default:
			http.NotFound(w, r)
		}
	})
	key := map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": secret}
	profiles := "[other]\naws_access_key_id = x\naws_secret_access_key = y\n[p]\naws_access_key_id = id\naws_secret_access_key=" + secret + "\naws_session_token = file\n"
	token := file(t, secret+"\n")
	for name, test := range map[string]struct {
		vars       map[string]string
		host, want string
	}{
		"key":          {key, ecrRegistry, "of--eu-west-1"},
		"upper case":   {key, strings.ToUpper(ecrRegistry), "of--eu-west-1"},
		"fips":         {key, "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", "of--us-east-1"},
		"china":        {key, "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "of--cn-north-1"},
		"public":       {key, "public.ecr.aws", "of--us-east-1"},
		"session":      {map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "s"}, ecrRegistry, "of-s-eu-west-1"},
		"web identity": {map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": "arn"}, ecrRegistry, "of-sts-eu-west-1"},
		"file":         {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file(t, profiles), "AWS_PROFILE": "p"}, ecrRegistry, "of-file-eu-west-1"},
		"agent":        {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL + "/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN": secret}, ecrRegistry, "of-session-eu-west-1"},
		"agent's file": {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token}, ecrRegistry, "of-session-eu-west-1"},
		"machine":      {map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": machine.URL}, ecrRegistry, "of-session-eu-west-1"},
	} {
		vars := map[string]string{"AWS_ENDPOINT_URL": ecr.URL, "AWS_ENDPOINT_URL_STS": sts.URL}
		for name, value := range test.vars {
			vars[name] = value
		}
		ecr.asked = nil
		t.Log(name)
		wantLogin(t, helpers(t, vars), test.host, "AWS", test.want)
		if len(ecr.asked) != 1 {
			t.Errorf("%s: asked %v, and what was answered is kept", name, ecr.asked)
		}
	}
}

func TestECRRefused(t *testing.T) {
	t.Parallel()
	no := serve(t, refuseAll)
	vars := map[string]string{"AWS_ENDPOINT_URL": no.URL, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": secret}
	wantRefusal(t, helpers(t, vars), ecrRegistry, "helper ecr: AWS_ACCESS_KEY_ID: ", "403 Forbidden", "allow its user or role ecr:GetAuthorizationToken")
	if got, err := helpers(t, vars).Login(t.Context(), "public.ecr.aws"); err != nil || got.Username != "" {
		t.Errorf("public.ecr.aws, which everybody may read: %v, %v", got, err)
	}
	vars = map[string]string{"AWS_ENDPOINT_URL": no.URL, "AWS_WEB_IDENTITY_TOKEN_FILE": file(t, secret), "AWS_ROLE_ARN": "arn"}
	wantRefusal(t, helpers(t, vars), ecrRegistry, "helper ecr: AWS_WEB_IDENTITY_TOKEN_FILE: ", "invalid_grant", "AWS_ROLE_ARN trusts")
	vars["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/nowhere"
	wantRefusal(t, helpers(t, vars), ecrRegistry, "AWS_WEB_IDENTITY_TOKEN_FILE: open /nowhere")
	vars = map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": no.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN": secret}
	wantRefusal(t, helpers(t, vars), ecrRegistry, "AWS_CONTAINER_CREDENTIALS_FULL_URI: ")
	vars["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://192.0.2.1/x"
	wantRefusal(t, helpers(t, vars), ecrRegistry, "192.0.2.1 is asked for a token by https only")

	no.asked = nil
	vars = map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": no.URL, "AWS_EC2_METADATA_DISABLED": "true"}
	if got, err := helpers(t, vars).Login(t.Context(), ecrRegistry); err != nil || got.Username != "" || len(no.asked) > 0 {
		t.Errorf("AWS_EC2_METADATA_DISABLED: %v, %v, asked %v", got, err, no.asked)
	}
}

func TestECREndpoints(t *testing.T) {
	t.Parallel()
	var got []string
	for _, host := range []string{ecrRegistry, "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "public.ecr.aws"} {
		r, _ := parseECR(host)
		got = append(got, r.endpoint(func(string) string { return "" }))
	}
	want := []string{
		"https://api.ecr.eu-west-1.amazonaws.com/", "https://ecr-fips.us-east-1.amazonaws.com/", "https://api.ecr.cn-north-1.amazonaws.com.cn/",
		"https://api.ecr-public.us-east-1.amazonaws.com/",
	}
	if !slices.Equal(got, want) {
		t.Errorf("endpoints %v, want %v", got, want)
	}
}
