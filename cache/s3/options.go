package s3

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/forge-build/forge/internal/sigv4"
)

// ParseOptions reads docker's attributes of a cache of type s3, but for its names, and, for what they do not say, the variables that AWS's own tools read.
func ParseOptions(attrs map[string]string, getenv func(string) string) (Options, error) {
	o := Options{
		Bucket:    cmp.Or(attrs["bucket"], getenv("AWS_BUCKET")),
		Region:    cmp.Or(attrs["region"], getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION")),
		Endpoint:  cmp.Or(attrs["endpoint_url"], getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL")),
		Prefix:    attrs["prefix"],
		Blobs:     attrs["blobs_prefix"],
		Manifests: attrs["manifests_prefix"],
		Key: sigv4.Key{
			ID:      cmp.Or(attrs["access_key_id"], getenv("AWS_ACCESS_KEY_ID")),
			Secret:  cmp.Or(attrs["secret_access_key"], getenv("AWS_SECRET_ACCESS_KEY")),
			Session: attrs["session_token"],
		},
	}
	if attrs["access_key_id"] == "" { // a session is that of its key
		o.Key.Session = cmp.Or(o.Key.Session, getenv("AWS_SESSION_TOKEN"))
	}
	var err error
	if v := attrs["use_path_style"]; v != "" {
		if o.PathStyle, err = strconv.ParseBool(v); err != nil {
			return o, fmt.Errorf("use_path_style=%s: must be true or false", v)
		}
	}
	if v := attrs["touch_refresh"]; v != "" {
		if o.Touch, err = time.ParseDuration(v); err != nil || o.Touch <= 0 {
			return o, fmt.Errorf("touch_refresh=%s: must be a time, such as 24h", v)
		}
	}
	if v := attrs["upload_parallelism"]; v != "" {
		if o.Parallel, err = strconv.Atoi(v); err != nil || o.Parallel < 1 {
			return o, fmt.Errorf("upload_parallelism=%s: must be a number from 1 on", v)
		}
	}
	return o, nil
}
