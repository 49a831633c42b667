package registry_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// TestHelpers pushes to a registry that asks for a password with what the variables of a GitLab job say, where a helper is to be asked, and
// files say nothing.
func TestHelpers(t *testing.T) {
	gitlab := []string{"google", "gitlab"}
	for name, test := range map[string]struct {
		helpers  []string
		password string // in the variables
		file     string // in config.json
		want     string // of the error
	}{
		"variables":               {gitlab, "secret", "", ""},
		"the file comes first":    {gitlab, "wrong", "secret", ""},
		"nobody is to be asked":   {nil, "secret", "", "forge login"},
		"another is to be asked":  {[]string{"ecr", "acr"}, "secret", "", "forge login"},
		"a password that is none": {gitlab, "wrong", "", "forge login"},
	} {
		t.Run(name, func(t *testing.T) {
			home := registrytest.Home(t)
			r := registrytest.NewTLS(t)
			trust(t, home, r.Server)
			service := &tokenService{user: "ann:secret", expires: 300, realm: r.URL + "/token"}
			r.Fault(fault{Do: service.guard})
			host := r.Listener.Addr().String()
			t.Setenv("CI_REGISTRY", host)
			t.Setenv("CI_REGISTRY_USER", "ann")
			t.Setenv("CI_REGISTRY_PASSWORD", test.password)
			if test.file != "" {
				write(t, filepath.Join(home, ".docker/config.json"), `{"auths": {"`+host+`": {"username": "ann", "password": "`+test.file+`"}}}`)
			}
			ref := r.Ref(t, "app:1")
			src := registrytest.NewMemory()
			d := src.AddImage(t, 1, amd64, false, 1000)
			_, err := registry.Copy(t.Context(), connect(t, ref, registry.Options{Helpers: test.helpers}), src, d, registry.CopyOptions{Name: ref})
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}
