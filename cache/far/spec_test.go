package far

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/image"
)

// TestParse reads what --cache-from and --cache-to may say, and refuses what they may not.
func TestParse(t *testing.T) {
	t.Parallel()
	from, to, both := ParseFrom, ParseTo, ParseBoth
	dir := t.TempDir()
	for _, test := range []struct {
		parse    func(string) (Spec, error)
		in, want string // the places' attribute, or what the error says
	}{
		{from, "host/app", "ref host/app"},
		{from, "type=registry,ref=host/app:x,registry.insecure=true", "ref host/app:x"},
		{from, "type=registry,ref=Host/App", "repository must be lower case"},
		{from, "type=registry", "type registry needs ref="},
		{from, "type=local,src=d", "src d"},
		{from, "type=local,dest=d", "type local needs src="},
		{to, "type=local,src=d", "type local needs dest="},
		{to, "type=local,dest=d,mode=max", "dest d"},
		{to, "type=local,dest=d,mode=some", `mode "some": must be min or max`},
		{to, "type=s3,region=r", "type s3 needs bucket="},
		{to, "type=reapi,url=grpc://h:1", "url grpc://h:1"},
		{to, "type=reapi", "type reapi needs url="},
		{to, "type=inline,ref=x", `type inline has no attribute "ref"`},
		{to, "type=registry,ref=a,ignore-error=maybe", "ignore-error=maybe: must be true or false"},
		{to, "type=odd", `type "odd" is not one of registry, local`},
		{both, "type=local,src=" + dir, "dest " + dir},
		{both, "type=local,src=" + dir + "/nowhere", "no such file"},
	} {
		c, err := test.parse(test.in)
		got := ""
		for _, key := range []string{"url", "ref", "src", "dest"} {
			if value, ok := c.Attrs[key]; ok {
				got = key + " " + value
			}
		}
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%s is %q, want %q", test.in, got, test.want)
		}
	}
}

// TestScopes names what is kept where, and a tag beside each name, which may hold something else.
func TestScopes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 125)
	for _, test := range []struct {
		spec Spec
		want string
	}{
		{Spec{"registry", map[string]string{"ref": "host/app:b"}}, "b:b,b-forge"},
		{Spec{"registry", map[string]string{"ref": "host/app:" + long}}, long + ":" + long + "," + remote.ScopeTag(long)},
		{Spec{"local", nil}, "latest:latest,latest-forge"},
		{Spec{"s3", map[string]string{"name": "a;b"}}, "a:a,a-forge b:b,b-forge"},
		{Spec{"gha", nil}, "buildkit:buildkit,buildkit-forge"},
		{Spec{"reapi", map[string]string{"name": "n"}}, "n:n,n-forge"},
		{Spec{"inline", nil}, ""},
	} {
		place := &remote.Place{}
		var got []string
		for _, s := range test.spec.Scopes(place) {
			if s.Place != place {
				t.Errorf("%v: a scope of another place", test.spec)
			}
			got = append(got, s.Name+":"+strings.Join(s.Tags, ","))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%v has the scopes %q, want %q", test.spec, got, test.want)
		}
	}
}

// TestOpen opens a directory: one that is only read has to be there, one that is written is made.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/cache"
	o := &Opener{}
	if _, err := o.Open(Spec{"local", map[string]string{"src": dir}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	p, err := o.Open(Spec{"local", map[string]string{"dest": dir}})
	if err != nil || p.Read == nil || p.Write == nil {
		t.Fatalf("a directory to write is %v, %v", p, err)
	}
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	index := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := p.Write.PushManifest(t.Context(), image.Reference{Tag: "a"}, index, raw); err != nil {
		t.Fatal(err)
	}
	if p, err = o.Open(Spec{"local", map[string]string{"src": dir}}); err != nil || p.Write != nil || p.Identity != "local" {
		t.Errorf("a directory to read is %v, %v", p, err)
	}
	if _, err := o.Open(Spec{"inline", nil}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a place of type inline: %v", err)
	}
}
