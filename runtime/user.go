package runtime

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A User is who runs the process.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Home     string // "/" if unknown
}

// String is uid:gid.
func (u User) String() string {
	return strconv.FormatUint(uint64(u.UID), 10) + ":" + strconv.FormatUint(uint64(u.GID), 10)
}

// An UnknownUserError says why USER names nobody: a name that is not in the image's files, or a number out of range.
type UnknownUserError string

func (e UnknownUserError) Error() string { return string(e) }

const (
	maxID       = 1<<31 - 1 // the greatest that docker takes
	maxUserFile = 10 << 20  // bytes of a passwd or group file
)

// LookupUser resolves USER as docker does against passwd and group files of the image (either may be nil): a user, or
// user:group, each a name or a number; "" is 0. What looks like a number is one, and never a name. A user found in
// passwd has the primary group, the supplementary groups and the home directory recorded there; an explicit group
// replaces both. A number that passwd does not know has group 0. A name that is not found is an UnknownUserError.
func LookupUser(user string, passwd, group io.Reader) (User, error) {
	name, groupName, explicit := strings.Cut(user, ":")
	explicit = explicit && groupName != ""
	u := User{Home: "/"}
	login, err := lookupLogin(&u, name, passwd)
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", user, err)
	}
	if explicit {
		err = lookupGroup(&u, groupName, group)
	} else if login != "" {
		err = lookupGroups(&u, login, group)
	}
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", user, err)
	}
	return u, nil
}

// lookupLogin fills in what passwd says, and returns the login name, if there is one.
func lookupLogin(u *User, name string, passwd io.Reader) (login string, err error) {
	if name == "" {
		name = "0"
	}
	uid, numeric, err := parseID(name)
	if err != nil {
		return "", err
	}
	u.UID = uid
	found := false
	// name:password:uid:gid:comment:home:shell
	err = eachLine(passwd, "passwd", func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		entryUID, ok := entryID(f[2])
		entryGID, ok2 := entryID(f[3])
		if !ok || !ok2 || numeric && entryUID != uid || !numeric && f[0] != name {
			return true
		}
		found, login = true, f[0]
		u.UID, u.GID = entryUID, entryGID
		if len(f) > 5 && f[5] != "" {
			u.Home = f[5]
		}
		return false
	})
	if err == nil && !found && !numeric {
		err = UnknownUserError("there is no such user in the image's passwd file")
	}
	return login, err
}

// lookupGroup sets the one group that was asked for.
func lookupGroup(u *User, name string, group io.Reader) error {
	gid, numeric, err := parseID(name)
	if err != nil {
		return err
	}
	if numeric {
		u.GID = gid
		return nil
	}
	found := false
	// name:password:gid:members
	err = eachLine(group, "group", func(f []string) bool {
		id, ok := uint32(0), false
		if len(f) > 2 && f[0] == name {
			id, ok = entryID(f[2])
		}
		if ok {
			u.GID, found = id, true
		}
		return !found
	})
	if err == nil && !found {
		err = UnknownUserError("there is no such group in the image's group file")
	}
	return err
}

// AddGroups adds supplementary groups, each by its name in the image's group file, which may be nil, or by its number.
func (u *User) AddGroups(names []string, group io.Reader) error {
	ids := map[string]uint32{}
	err := eachLine(group, "group", func(f []string) bool {
		if len(f) > 2 && slices.Contains(names, f[0]) {
			id, ok := entryID(f[2])
			if _, known := ids[f[0]]; ok && !known {
				ids[f[0]] = id
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		id, numeric, err := parseID(name)
		if err == nil && !numeric {
			found := false
			if id, found = ids[name]; !found {
				err = UnknownUserError("there is no such group in the image's group file")
			}
		}
		if err != nil {
			return fmt.Errorf("group %q: %w", name, err)
		}
		if !slices.Contains(u.Groups, id) {
			u.Groups = append(u.Groups, id)
		}
	}
	return nil
}

// lookupGroups adds the groups that list a login name as a member.
func lookupGroups(u *User, login string, group io.Reader) error {
	return eachLine(group, "group", func(f []string) bool {
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), login) {
			return true
		}
		if id, ok := entryID(f[2]); ok && !slices.Contains(u.Groups, id) {
			u.Groups = append(u.Groups, id)
		}
		return len(u.Groups) < 65536 // NGROUPS_MAX
	})
}

// parseID reads a number, if s looks like one; out of range is an error then.
func parseID(s string) (id uint32, numeric bool, err error) {
	digits := strings.TrimLeft(s, "+-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > maxID {
		return 0, true, UnknownUserError(fmt.Sprintf("%s is not a number from 0 to %d", s, maxID))
	}
	return uint32(n), true, nil
}

// entryID reads a number of a file's entry.
func entryID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil
}

// eachLine calls f with the fields of each line until it returns false.
func eachLine(r io.Reader, what string, f func(fields []string) bool) error {
	if r == nil {
		return nil
	}
	limited := &io.LimitedReader{R: r, N: maxUserFile + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxUserFile+1)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if !f(strings.Split(line, ":")) {
			return nil
		}
	}
	if limited.N == 0 {
		return fmt.Errorf("the image's %s file is larger than %d MiB", what, maxUserFile>>20)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the image's %s file: %w", what, err)
	}
	return nil
}
