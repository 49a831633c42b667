package runtime

import (
	"io"
	"strconv"
)

// A User is who runs the process.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Home     string // "/" if unknown
}

func (u User) String() string {
	return strconv.FormatUint(uint64(u.UID), 10) + ":" + strconv.FormatUint(uint64(u.GID), 10)
}

// LookupUser resolves USER as docker does against passwd and group files of the image (either may be nil).
func LookupUser(user string, passwd, group io.Reader) (User, error) {
	return User{}, nil
}
