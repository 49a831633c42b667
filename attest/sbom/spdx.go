package sbom

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"time"
)

// PredicateType is the type of SPDX documents in a statement of in-toto.
const PredicateType = "https://spdx.dev/Document"

// About says what a list of packages is of.
type About struct {
	Name      string    // the image's name, or its digest
	Namespace string    // a URI that no other document has
	Created   time.Time // of the image, so that the same image has the same document
	Tool      string    // which made the list: name-version
}

// An element is something that SPDX calls a package: the image itself, or what is in it.
type element struct {
	Name             string        `json:"name"`
	ID               string        `json:"SPDXID"`
	Version          string        `json:"versionInfo,omitempty"`
	DownloadLocation string        `json:"downloadLocation"`
	FilesAnalyzed    bool          `json:"filesAnalyzed"`
	Purpose          string        `json:"primaryPackagePurpose,omitempty"`
	SourceInfo       string        `json:"sourceInfo,omitempty"`
	LicenseConcluded string        `json:"licenseConcluded"`
	LicenseDeclared  string        `json:"licenseDeclared"`
	CopyrightText    string        `json:"copyrightText"`
	ExternalRefs     []externalRef `json:"externalRefs,omitempty"`
}

type externalRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const (
	documentID  = "SPDXRef-DOCUMENT"
	imageID     = "SPDXRef-Image"
	noAssertion = "NOASSERTION" // SPDX 2.3: the author has not tried to find out
)

// SPDX writes the packages as a document of SPDX 2.3 in JSON. Equal arguments give equal bytes.
func SPDX(about About, packages []Package) ([]byte, error) {
	type creation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	doc := struct {
		Version       string         `json:"spdxVersion"`
		DataLicense   string         `json:"dataLicense"`
		ID            string         `json:"SPDXID"`
		Name          string         `json:"name"`
		Namespace     string         `json:"documentNamespace"`
		Creation      creation       `json:"creationInfo"`
		Packages      []element      `json:"packages"`
		Relationships []relationship `json:"relationships"`
	}{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: documentID, Name: about.Name, Namespace: about.Namespace,
		Creation:      creation{about.Created.UTC().Format(time.RFC3339), []string{"Tool: " + about.Tool}},
		Packages:      []element{newElement(imageID, about.Name)},
		Relationships: []relationship{{documentID, "DESCRIBES", imageID}},
	}
	doc.Packages[0].Purpose = "CONTAINER"
	for i, p := range packages {
		e := newElement(fmt.Sprintf("SPDXRef-Package-%d", i+1), p.Name)
		e.Version, e.SourceInfo = p.Version, "named by "+p.Source
		e.ExternalRefs = []externalRef{{"PACKAGE-MANAGER", "purl", p.URL}}
		if isExpression(p.License) {
			e.LicenseDeclared = p.License
		}
		doc.Packages = append(doc.Packages, e)
		doc.Relationships = append(doc.Relationships, relationship{imageID, "CONTAINS", e.ID})
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // URLs hold ampersands
	err := encoder.Encode(doc)
	return bytes.TrimSpace(b.Bytes()), err
}

func newElement(id, name string) element {
	return element{
		Name: name, ID: id, DownloadLocation: noAssertion, LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, CopyrightText: noAssertion,
	}
}

// isExpression reports whether a license is written as SPDX writes it (SPDX 2.3, annex D), as far as form goes. What databases say
// of licenses is free text.
func isExpression(license string) bool {
	const id = `\(*[A-Za-z0-9.+-]+\)*`
	return regexp.MustCompile(`^` + id + `( (AND|OR|WITH) ` + id + `)*$`).MatchString(license)
}
