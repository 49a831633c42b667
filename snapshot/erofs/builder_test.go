package erofs

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// What an archive has an index keep is limited, however small the archive.
func TestBuilderLimit(t *testing.T) {
	b := NewBuilder()
	b.limit = 1 << 20
	value := strings.Repeat("v", 60000)
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		e := filetree.Entry{Mode: unix.S_IFREG | 0o644, Xattrs: map[string]string{"user.x": fmt.Sprint(i, value)}}
		err = b.Add(fmt.Sprint(i), &e, 0)
	}
	if err == nil || !strings.Contains(err.Error(), "more than 1 MiB") {
		t.Errorf("much more than 1 MiB of attributes: %v", err)
	}
}
