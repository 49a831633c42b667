package planner

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// A ModeChange is what --chmod does to the mode of a file. Nil changes nothing.
type ModeChange struct {
	octal   bool
	mode    uint32 // octal: the whole answer
	clauses []modeClause
}

// A modeClause is one operator of a symbolic mode, as of chmod(1), with a umask of zero.
type modeClause struct {
	op   byte   // '+', '-' or '='
	who  uint32 // bits that may change
	perm uint32 // bits to change
	exec bool   // 'X': the execute bits, for directories and what was executable before
	from byte   // 'u', 'g' or 'o': the class whose bits are taken
}

const (
	permUser       = syscall.S_ISUID | 0o700
	permGroup      = syscall.S_ISGID | 0o070
	permOther      = 0o007
	permAll        = permUser | permGroup | permOther
	permissionBits = permAll | syscall.S_ISVTX
)

// ParseMode reads the value of --chmod: octal up to 07777, or symbolic as chmod(1) takes it.
func ParseMode(s string) (*ModeChange, error) {
	if s == "" {
		return nil, nil
	}
	if s[0] >= '0' && s[0] <= '9' {
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil || n > permissionBits {
			return nil, fmt.Errorf("invalid chmod parameter: '%s'. it should be octal string and between 0 and 07777", s)
		}
		return &ModeChange{octal: true, mode: uint32(n)}, nil
	}
	m := &ModeChange{}
	for _, clause := range strings.Split(s, ",") {
		if err := m.parseClause(clause); err != nil {
			return nil, fmt.Errorf("invalid chmod parameter: '%s': %w", s, err)
		}
	}
	return m, nil
}

// parseClause reads who, and then operators with what they change.
func (m *ModeChange) parseClause(s string) error {
	var who uint32
	n := strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune("augo", r) })
	if n < 0 {
		return errors.New("an operator (+, - or =) is missing")
	}
	for _, c := range s[:n] {
		who |= map[rune]uint32{'a': permAll, 'u': permUser, 'g': permGroup, 'o': permOther}[c]
	}
	if who == 0 {
		who = permAll
	}
	for s = s[n:]; s != ""; {
		op := s[0]
		if op != '+' && op != '-' && op != '=' {
			return fmt.Errorf("%q is no operator", op)
		}
		n := 1 + strings.IndexAny(s[1:]+"=", "+-=")
		m.addClauses(op, who, s[1:n])
		if bad := strings.Trim(s[1:n], "rwxXstugo"); bad != "" {
			return fmt.Errorf("%q is no permission", bad)
		}
		s = s[n:]
	}
	return nil
}

// addClauses adds what one operator does: the bits that are named, and one more clause for each class to take from.
func (m *ModeChange) addClauses(op byte, who uint32, perms string) {
	c := modeClause{op: op, who: who}
	var classes []byte
	for i := range len(perms) {
		switch p := perms[i]; p {
		case 'r':
			c.perm |= 0o444
		case 'w':
			c.perm |= 0o222
		case 'x':
			c.perm |= 0o111
		case 'X':
			c.exec = true
		case 's':
			c.perm |= syscall.S_ISUID | syscall.S_ISGID
		case 't':
			if who&^uint32(permOther) != 0 {
				c.who |= syscall.S_ISVTX
				c.perm |= syscall.S_ISVTX
			}
		case 'u', 'g', 'o':
			classes = append(classes, p)
		}
	}
	if op == '=' && len(classes) > 0 && c.perm == 0 && !c.exec {
		// "g=u" copies the three bits and leaves set-group-id alone.
		m.clauses = append(m.clauses, modeClause{op: '=', who: who &^ (syscall.S_ISUID | syscall.S_ISGID), from: classes[0]})
		classes = classes[1:]
	} else if c.perm != 0 || c.exec || op == '=' {
		m.clauses = append(m.clauses, c)
	}
	if op == '=' {
		op = '+'
	}
	for _, class := range classes {
		m.clauses = append(m.clauses, modeClause{op: op, who: who, from: class})
	}
}

// Apply returns the mode of a file, type included, after the change. Links have no mode of their own.
func (m *ModeChange) Apply(mode uint32) uint32 {
	if m == nil || mode&syscall.S_IFMT == syscall.S_IFLNK {
		return mode
	}
	if m.octal {
		return mode&syscall.S_IFMT | m.mode
	}
	out := mode
	for _, c := range m.clauses {
		bits := c.perm
		if c.exec && (c.op == '-' || mode&0o111 != 0 || mode&syscall.S_IFMT == syscall.S_IFDIR) {
			bits |= 0o111
		}
		switch c.from {
		case 'u':
			bits |= out >> 6 & 7 * 0o111
		case 'g':
			bits |= out >> 3 & 7 * 0o111
		case 'o':
			bits |= out & 7 * 0o111
		}
		switch c.op {
		case '+':
			out |= bits & c.who
		case '-':
			out &^= bits & c.who
		case '=':
			// The sticky bit is in nobody's class: only "t" itself changes it.
			out = out&^(c.who&^syscall.S_ISVTX) | bits&c.who
		}
	}
	return out
}

// Parents is the mode of the directories made on the way to a destination: an octal mode applies to them too.
func (m *ModeChange) Parents() uint32 {
	if m != nil && m.octal {
		return syscall.S_IFDIR | m.mode&0o777
	}
	return syscall.S_IFDIR | 0o755
}
