package sigv4

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestSign holds the examples of Amazon's "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".
func TestSign(t *testing.T) {
	key := Key{ID: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	now := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		method, url, body string
		header            http.Header
		want              string
	}{
		{
			"GET", "https://examplebucket.s3.amazonaws.com/test.txt", EmptySum,
			http.Header{"Range": {"bytes=0-9"}},
			"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
		},
		{
			"PUT", "https://examplebucket.s3.amazonaws.com/test$file.text", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
			http.Header{"Date": {"Fri, 24 May 2013 00:00:00 GMT"}, "X-Amz-Storage-Class": {"REDUCED_REDUNDANCY"}},
			"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
		},
		{
			"GET", "https://examplebucket.s3.amazonaws.com/?lifecycle", EmptySum,
			http.Header{},
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
		},
		{
			"GET", "https://examplebucket.s3.amazonaws.com/?prefix=J&max-keys=2", EmptySum,
			http.Header{},
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
		},
	} {
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		key.Sign(test.method, u, test.header, Scope{"us-east-1", "s3"}, test.body, now)
		_, got, _ := strings.Cut(test.header.Get("Authorization"), "Signature=")
		if got != test.want {
			t.Errorf("%s %s: %s, want %s", test.method, test.url, test.header.Get("Authorization"), test.want)
		}
	}
}
