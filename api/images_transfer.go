package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/source"
)

// saveImages answers with a docker archive, which is an OCI layout, too.
func saveImages(c *call) error {
	names := c.query["names"]
	if c.name != "" {
		names = []string{c.name}
	}
	if len(names) == 0 {
		return invalid(errors.New("no names of images are given"))
	}
	platform, err := c.platform()
	if err != nil {
		return err
	}
	return c.home.Save(c.ctx(), names, forge.SaveOptions{File: "-", Stdout: lateWriter{c, "application/x-tar"}, Format: "docker-archive", Platform: platform})
}

// A lateWriter begins the answer with the first byte of the body, so that an error before it is an answer of its own.
type lateWriter struct {
	c           *call
	contentType string
}

func (l lateWriter) Write(p []byte) (int, error) {
	l.c.begin(http.StatusOK, l.contentType)
	return l.c.w.Write(p)
}

// maxRest is how much of a body is read that nobody needs any more, in bytes. Whoever sends more than that is cut off.
const maxRest = 64 << 20

// duplex lets an answer be sent while the body of the request is still read. What it returns is to be called at the end: it reads the rest,
// without which net/http cannot use the connection again.
func (c *call) duplex() (end func()) {
	if c.r.ProtoMajor != 1 || http.NewResponseController(c.w).EnableFullDuplex() != nil {
		return func() {} // it is so, or cannot be
	}
	return func() {
		if n, err := io.CopyN(io.Discard, c.r.Body, maxRest); n == maxRest && err == nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func loadImages(c *call) error {
	defer c.duplex()()
	platform, err := c.platform()
	if err != nil {
		return err
	}
	return c.messages(func(send func(any) error) error {
		c.begin(http.StatusOK, "application/json") // as docker's does, whatever becomes of it
		names, err := c.home.Load(c.ctx(), forge.LoadOptions{File: "-", Stdin: c.r.Body, Platform: platform})
		for _, name := range names {
			text := "Loaded image: " + name
			if strings.HasPrefix(name, "sha256:") {
				text = "Loaded image ID: " + name
			}
			if err := send(map[string]string{"stream": text + "\n"}); err != nil {
				return err
			}
		}
		return err
	})
}

// createImage pulls an image, or makes one of a root file system.
func createImage(c *call) error {
	switch {
	case c.query.Get("fromImage") != "":
		return pullImage(c)
	case c.query.Get("fromSrc") != "":
		return importImage(c)
	}
	return invalid(errors.New("neither fromImage nor fromSrc is given"))
}

func pullImage(c *call) error {
	name, tag := c.query.Get("fromImage"), c.query.Get("tag")
	all := tag == "" && !strings.ContainsAny(name[strings.LastIndex(name, "/")+1:], ":@")
	switch {
	case strings.Contains(tag, ":"): // a digest
		name += "@" + tag
	case tag != "":
		name += ":" + tag
	}
	remote, platform, err := c.transfer(name)
	if err != nil {
		return err
	}
	return c.messages(func(send func(any) error) error {
		show := &progress{send: send, first: pulling(name), states: pullStates}
		remote.Events = show.event
		pulled, err := c.home.Pull(c.ctx(), name, forge.PullOptions{RemoteOptions: remote, Platform: platform, AllTags: all})
		if err != nil {
			return registryError(err)
		}
		show.begin()
		for _, p := range pulled {
			state := "Image is up to date for "
			if p.Updated {
				state = "Downloaded newer image for "
			}
			show.status("", "Digest: "+p.Source.String())
			show.status("", "Status: "+state+p.Name.Familiar())
		}
		return show.err
	})
}

// pulling is the first line of a pull.
func pulling(name string) message {
	repository, tag := name, "latest"
	if i := strings.LastIndexAny(name, ":@"); i > strings.LastIndex(name, "/") {
		repository, tag = strings.TrimSuffix(name[:i], "@sha256"), name[i+1:]
	}
	if !strings.Contains(repository, "/") {
		repository = "library/" + repository
	}
	return message{Status: "Pulling from " + repository, ID: tag}
}

func importImage(c *call) error {
	defer c.duplex()()
	name := c.query.Get("repo")
	if tag := c.query.Get("tag"); tag != "" && name != "" {
		name += ":" + tag
	}
	if name != "" {
		if _, err := forge.RegistryOf(name); err != nil {
			return invalid(err)
		}
	}
	platform, err := c.platform()
	if err != nil {
		return err
	}
	from := c.query.Get("fromSrc")
	if from != "-" && !source.IsURL(from) {
		return invalid(fmt.Errorf("fromSrc=%s is neither - nor a URL: files of this machine are sent as the request's body", from))
	}
	return c.messages(func(send func(any) error) error {
		img, err := c.home.Import(c.ctx(), forge.ImportOptions{
			File: from, Stdin: c.r.Body, Name: name, Changes: c.query["changes"], Message: c.query.Get("message"), Platform: platform,
		})
		if err != nil {
			return err
		}
		return send(message{Status: img.ID().String()})
	})
}

func pushImage(c *call) error {
	name, tag := c.name, c.query.Get("tag")
	if tag != "" {
		name += ":" + tag
	}
	remote, platform, err := c.transfer(name)
	if err != nil {
		return err
	}
	o := forge.PushOptions{RemoteOptions: remote, AllTags: tag == "" && !strings.ContainsAny(c.name[strings.LastIndex(c.name, "/")+1:], ":@")}
	if platform != "" {
		o.Platforms = []string{platform}
	}
	return c.messages(func(send func(any) error) error {
		show := &progress{send: send, first: message{Status: "The push refers to repository [" + c.name + "]"}, states: pushStates}
		show.begin()
		o.Events = show.event
		pushed, err := c.home.Push(c.ctx(), name, o)
		for _, n := range pushed {
			d := n.Descriptor
			show.status("", fmt.Sprintf("%s: digest: %s size: %d", n.Reference.Tag, d.Digest, d.Size))
			show.say(message{Aux: map[string]any{"Tag": n.Reference.Tag, "Digest": d.Digest, "Size": d.Size}})
		}
		if is[*forge.NotFoundError](err) {
			return errors.New("An image does not exist locally with the tag: " + c.name) //nolint:staticcheck // docker's words
		}
		return errors.Join(err, show.err)
	})
}

// transfer is how an image of a name is brought or sent: the credentials, and the platform of the query.
func (c *call) transfer(name string) (remote forge.RemoteOptions, platform string, err error) {
	if _, err = forge.RegistryOf(name); err != nil {
		return remote, "", invalid(err)
	}
	if remote, err = c.remote(); err == nil {
		platform, err = c.platform()
	}
	return remote, platform, err
}

// platform is the platform of the query: os/arch[/variant], or, as later versions have it, the JSON of one.
func (c *call) platform() (string, error) {
	if n := len(c.query["platform"]); n > 1 {
		return "", invalid(fmt.Errorf("%d platforms are given: ask for one at a time", n))
	}
	return parsePlatform(c.query.Get("platform"))
}

func parsePlatform(text string) (string, error) {
	if !strings.HasPrefix(text, "{") {
		return text, nil
	}
	var p struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return "", invalid(fmt.Errorf("failed to parse platform: %w", err))
	}
	if p.Variant != "" {
		p.Variant = "/" + p.Variant
	}
	return p.OS + "/" + p.Architecture + p.Variant, nil
}
