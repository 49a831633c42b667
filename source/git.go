package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A Git is a repository as this machine's git sees it.
type Git struct{ planner.GitRef }

// A GitTree is a checkout as a tree. Modes are what a umask of 022 gives, whatever that of this process is.
type GitTree struct {
	*Dir
	mtime    time.Time // of all files, unless zero
	checkout string    // directory of the repository's root
}

// Close ends the reading, and removes the checkout.
func (t GitTree) Close() error { return errors.Join(t.Dir.Close(), os.RemoveAll(t.checkout)) }

// normalize changes what stat says of a file of the checkout to what the tree says.
func (t GitTree) normalize(e *filetree.Entry) {
	e.Mode = gitMode(e.Mode)
	if !t.mtime.IsZero() {
		e.ModTime = t.mtime
	}
}

// Lstat implements [filetree.Tree].
func (t GitTree) Lstat(name string) (filetree.Entry, error) {
	e, err := t.Dir.Lstat(name)
	t.normalize(&e)
	return e, err
}

// List implements [filetree.Tree].
func (t GitTree) List(name string, fn func(e *filetree.Entry, sum *filetree.Sum) error) error {
	return t.Dir.List(name, func(e *filetree.Entry, sum *filetree.Sum) error {
		t.normalize(e)
		return fn(e, sum)
	})
}

// gitMode lets everybody do what the owner may, but for writing.
func gitMode(mode uint32) uint32 {
	if mode&syscall.S_IFMT == syscall.S_IFLNK {
		return mode
	}
	user := mode >> 6 & 7
	return mode&syscall.S_IFMT | user<<6 | user&5<<3 | user&5
}

// A Commit is what a ref of a repository names.
type Commit struct {
	ID  string `json:"id"`            // whole hash
	Ref string `json:"ref,omitempty"` // full name, "refs/tags/v1"; "" if a commit was asked for
	Tag string `json:"tag,omitempty"` // whole hash of the annotated tag that the ref is, which a checksum may be of; "" if it is none
}

// Resolve asks the repository which commit the ref names. Branches win over tags of the same name.
func (g *Git) Resolve(ctx context.Context) (Commit, error) {
	if planner.IsCommit(g.Ref) {
		return g.verified(Commit{ID: g.Ref})
	}
	if g.FetchByCommit {
		c := Commit{ID: strings.ToLower(g.Checksum), Ref: g.Ref}
		if c.Ref != "" && !strings.HasPrefix(c.Ref, "refs/") {
			c.Ref = "refs/heads/" + c.Ref
		}
		return c, nil
	}
	args := []string{"ls-remote", "--symref", "--", web.WithoutLogin(g.Remote)}
	if g.Ref == "" {
		args = append(args, "HEAD")
	} else {
		args = append(args, g.Ref, g.Ref+"^{}")
	}
	out, err := g.git(ctx, "", args...)
	if err != nil {
		return Commit{}, g.failed(err)
	}
	refs := make(map[string]string)
	for line := range strings.Lines(out) {
		sha, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if target, ok := strings.CutPrefix(sha, "ref: "); ok {
			refs["ref: "+name] = target
			continue
		}
		refs[name] = sha
	}
	if g.Ref == "" {
		return g.verified(Commit{ID: refs["HEAD"], Ref: refs["ref: HEAD"]})
	}
	ref := strings.TrimPrefix(g.Ref, "refs/")
	for _, name := range []string{"refs/" + ref, "refs/heads/" + ref, "refs/tags/" + ref} {
		if sha := refs[name]; sha != "" {
			if peeled := refs[name+"^{}"]; peeled != "" { // what an annotated tag is on
				return g.verified(Commit{ID: peeled, Ref: name, Tag: sha})
			}
			return g.verified(Commit{ID: sha, Ref: name})
		}
	}
	return Commit{}, g.failed(fmt.Errorf("there is no ref %q", g.Ref))
}

// verified is c if the checksum allows it, or the tag that led to it.
func (g *Git) verified(c Commit) (Commit, error) {
	if !planner.IsCommit(c.ID) {
		return c, g.failed(fmt.Errorf("%q is not a commit", c.ID))
	}
	if !g.matches(c.ID) && !g.matches(c.Tag) {
		return c, g.failed(fmt.Errorf("expected checksum to match %s, got %s", g.Checksum, c.ID))
	}
	return c, nil
}

// matches reports whether a commit is what the checksum asks for.
func (g *Git) matches(commit string) bool {
	return g.Checksum == "" || strings.HasPrefix(commit, strings.ToLower(g.Checksum))
}

func (g *Git) failed(err error) error { return fmt.Errorf("%s: %w", web.Redact(g.Remote), err) }

// Checkout fetches a commit into the staging area of layout, and opens what was asked for of it. It ends when the file system is about to
// be full.
func (g *Git) Checkout(ctx context.Context, layout *image.Layout, at Commit) (_ GitTree, err error) {
	dir, err := layout.Staging().Mkdir()
	if err != nil {
		return GitTree{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	ctx, stop := whileSpace(ctx, layout)
	defer stop()
	if _, err := g.git(ctx, dir, "init", "--quiet", "--initial-branch=master", "."); err != nil {
		return GitTree{}, g.failed(err)
	}
	if _, err := g.git(ctx, dir, "remote", "add", "origin", web.WithoutLogin(g.Remote)); err != nil {
		return GitTree{}, g.failed(err)
	}
	if err := g.fetch(ctx, dir, at); err != nil {
		return GitTree{}, g.failed(err)
	}
	if err := g.prove(ctx, dir, at); err != nil {
		return GitTree{}, g.failed(err)
	}
	if _, err := g.git(ctx, dir, "checkout", "--quiet", "--force", "--detach", at.ID); err != nil {
		return GitTree{}, g.failed(err)
	}
	if g.Submodules {
		if _, err := os.Lstat(filepath.Join(dir, ".gitmodules")); err == nil {
			if _, err := g.git(ctx, dir, "submodule", "update", "--init", "--recursive", "--depth=1"); err != nil {
				return GitTree{}, g.failed(err)
			}
		}
	}
	tree := GitTree{checkout: dir}
	if g.CommitTime {
		if tree.mtime, err = g.timeOf(ctx, dir, at.ID); err != nil {
			return GitTree{}, err
		}
	}
	tree.Dir, err = g.open(dir)
	return tree, err
}

// timeOf is when a commit was made.
func (g *Git) timeOf(ctx context.Context, dir, commit string) (time.Time, error) {
	out, err := g.git(ctx, dir, "show", "--no-patch", "--format=%ct", commit)
	if err != nil {
		return time.Time{}, g.failed(err)
	}
	sec, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return time.Time{}, g.failed(err)
	}
	return time.Unix(sec, 0), nil
}

// fetch gets a commit: under its name if it has one, itself if the server gives single commits away, else everything.
func (g *Git) fetch(ctx context.Context, dir string, at Commit) error {
	shallow := []string{"fetch", "--quiet", "--depth=1", "--no-tags", "--update-head-ok", "origin"}
	var tries [][]string
	if at.Ref != "" {
		from := at.Ref
		if g.FetchByCommit { // whatever the ref names now
			from = at.ID
		}
		tries = append(tries, append(shallow[:len(shallow):len(shallow)], "+"+from+":"+at.Ref))
	}
	tries = append(tries, append(shallow[:len(shallow):len(shallow)], at.ID),
		[]string{"fetch", "--quiet", "--tags", "--update-head-ok", "origin", "+refs/heads/*:refs/remotes/origin/*"})
	var failed error
	for _, args := range tries {
		if _, failed = g.git(ctx, dir, args...); failed != nil {
			continue
		}
		if _, err := g.git(ctx, dir, "cat-file", "-e", at.ID+"^{commit}"); err == nil {
			return nil
		}
		failed = fmt.Errorf("commit %s is not there any more", at.ID)
	}
	return failed
}

// prove reports an error if the checksum is of a tag that is not on the commit. Until now the server, or a file of pins, has only said so.
func (g *Git) prove(ctx context.Context, dir string, at Commit) error {
	if g.matches(at.ID) {
		return nil
	}
	if _, err := g.git(ctx, dir, "cat-file", "-e", at.Tag); err != nil { // the ref is another by now
		if _, err := g.git(ctx, dir, "fetch", "--quiet", "--depth=1", "--no-tags", "origin", at.Tag); err != nil {
			return fmt.Errorf("the checksum %s is of the tag %s, which the repository does not give: %w", g.Checksum, at.Tag, err)
		}
	}
	commit, err := g.git(ctx, dir, "rev-parse", "--verify", "--end-of-options", at.Tag+"^{commit}")
	if err == nil && strings.TrimSpace(commit) != at.ID {
		err = fmt.Errorf("the tag %s, which the checksum is of, is on commit %s and not on %s", at.Tag, strings.TrimSpace(commit), at.ID)
	}
	return err
}

// open opens the checkout as a tree, without .git unless it is to be kept.
func (g *Git) open(dir string) (*Dir, error) {
	if g.Dir == "" {
		var hide []string
		if !g.KeepGitDir {
			hide = []string{".git"}
		} else if err := forgetTemplates(dir); err != nil {
			return nil, err
		}
		return OpenDir(dir, hide, "")
	}
	// The way to the sub-directory is the repository's: it must not lead out of it.
	all, err := OpenDir(dir, []string{".git"}, "")
	if err != nil {
		return nil, err
	}
	sub, err := filetree.Resolve(all.Lstat, g.Dir)
	if err = errors.Join(err, all.Close()); err != nil {
		return nil, g.failed(fmt.Errorf("sub-directory %s: %w", g.Dir, err))
	}
	d, err := OpenDir(filepath.Join(dir, sub), nil, "")
	if err != nil {
		return nil, g.failed(fmt.Errorf("sub-directory %s: %w", g.Dir, err))
	}
	return d, nil
}

// forgetTemplates removes from a kept .git what would differ from one checkout to the next and serves nobody.
func forgetTemplates(dir string) error {
	for _, name := range []string{"FETCH_HEAD", "logs", "hooks"} {
		if err := os.RemoveAll(filepath.Join(dir, ".git", name)); err != nil {
			return err
		}
	}
	return nil
}
