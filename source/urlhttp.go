package source

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"

	"github.com/forge-build/forge/internal/web"
)

// fetchURL gets a URL and hands the response, 200 or 304, to use, which reads its body; if the connection breaks then, the
// whole is tried again. Name and password of the URL are sent to its server, and to no other that it redirects to.
func fetchURL(ctx context.Context, address string, known Download, use func(r *http.Response) error) error {
	u, err := web.ParseURL(address)
	if err != nil {
		return err
	}
	req := &web.Request{Method: http.MethodGet, URL: u, Header: http.Header{}}
	if user := u.User; user != nil {
		password, _ := user.Password()
		req.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
		u.User = nil
	}
	if known.ETag != "" {
		req.Header.Set("If-None-Match", known.ETag)
	} else if known.LastModified != "" {
		req.Header.Set("If-Modified-Since", known.LastModified)
	}
	client := web.New(u.Host, web.Options{Downgrade: web.DowngradeAllowed})
	defer client.Close() //nolint:errcheck // nothing is left to write
	budget := web.NewBudget(web.Limits{})
	return budget.Until(ctx, func() error { return fetchOnce(ctx, client, req, budget, known, use) })
}

// fetchOnce is one try.
func fetchOnce(ctx context.Context, client *web.Client, req *web.Request, b *web.Budget, known Download, use func(r *http.Response) error) error {
	res, err := client.Follow(ctx, req, b)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // read only
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusNotModified && known.Digest != "" {
		return use(res)
	}
	return web.Refused(errors.New("server answers "+res.Status), res)
}
