package objects

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/epitaph/epitaph/connector"
)

// oldInventory is the age from which Check warns of an inventory: S3 makes one
// each day or each week.
const oldInventory = 8 * 24 * time.Hour

// Check proves that the bucket can be listed with its versions and unfinished
// uploads, and says how it is kept. What only a deletion would show, the right
// to delete, is not tried. A nil q, and one without collection on a store that
// names no bucket, is not held against any bucket.
func (c *Connector) Check(ctx context.Context, q *connector.Query) ([]connector.Finding, error) {
	if q == nil {
		q = &connector.Query{}
	}
	found := checkQuery(q)
	if c.bucket == "" && q.Collection == "" {
		return found, nil
	}
	name, prefix, err := c.scope(q.Collection)
	if err != nil {
		return append(found, connector.Finding{Severity: connector.Fault, Subject: "collection",
			Text: "the collection is outside the store: " + err.Error(),
			Hint: "write the whole key's prefix, after the bucket's name where the store names none"}), nil
	}
	b := c.bucketNamed(name)
	b.forget()
	t, err := c.traits(ctx, b)
	if err != nil {
		return found, err
	}
	found = append(found, checkTraits(t)...)
	if _, err := c.list(ctx, b, listing{prefix: prefix, max: fullPage}, cursor{}); err != nil {
		if classify(err) != denied {
			return found, err
		}
		found = append(found, forbidden("listing", permission(t)))
	}
	if !c.o.NoUploads {
		_, _, _, err := c.uploadPage(ctx, b, prefix, cursor{})
		switch k := classify(err); {
		case err == nil:
		case k == denied:
			found = append(found, forbidden("the listing of unfinished uploads", "s3:ListBucketMultipartUploads"))
		case k == absent:
			found = append(found, connector.Finding{Severity: connector.Fault, Subject: "collection",
				Text: "the server cannot list unfinished uploads, so that no key could be called gone",
				Hint: "set uploads: none on the store if the server keeps none"})
		default:
			return found, err
		}
	}
	more, err := c.checkInventory(ctx, name)
	return append(found, more...), err
}

func (c *Connector) checkInventory(ctx context.Context, bucket string) ([]connector.Finding, error) {
	if c.o.Inventory == "" {
		return nil, nil
	}
	m, err := c.readManifest(ctx, bucket)
	var api interface{ ErrorCode() string }
	switch {
	case errors.As(err, &api), err != nil && classify(err) == passing:
		return nil, err
	case err != nil:
		return []connector.Finding{{Severity: connector.Fault, Subject: "collection", Text: err.Error(),
			Hint: "name the manifest.json of an inventory of this bucket in CSV format"}}, nil
	case c.o.Clock().Sub(m.created()) > oldInventory:
		return []connector.Finding{{Severity: connector.Warning, Subject: "collection",
			Text: "the inventory is older than 8 days: keys made since are not found",
			Hint: "name the manifest of the newest inventory"}}, nil
	}
	return nil, nil
}

// checkQuery finds what an object store cannot do.
func checkQuery(q *connector.Query) []connector.Finding {
	var found []connector.Finding
	fault := func(subject, text, hint string) {
		found = append(found, connector.Finding{Severity: connector.Fault, Subject: subject, Text: text, Hint: hint})
	}
	for _, s := range []struct{ name, sql string }{{"where", q.Where}, {"hold", q.Hold}, {"in_use", q.InUse}} {
		if s.sql != "" {
			fault(s.name, "an object store knows no conditions", "remove it; a legal hold of the store is honoured by itself")
		}
	}
	if len(q.Wants) > 0 {
		fault("parts[0]", "an object has no columns that could name parts", "write a rule of its own for them")
	}
	if len(q.Then) > 0 {
		fault("then", "an object has no columns that could be set", "remove then")
	}
	if len(q.Links) > 0 {
		fault("links[0]", "an object has no linked rows", "remove it")
	}
	if q.Collection == "" && q.Cutoff.IsZero() && q.Anchor == (connector.Anchor{}) {
		return found // no items of this store are meant, only parts in it
	}
	switch a := q.Anchor; a.Kind {
	case connector.AnchorModified:
	case connector.AnchorName:
		if _, err := connector.CompileLayout(a.Layout); err != nil {
			fault("anchor", err.Error(), "write the base name with YYYY, MM and DD in it")
		}
	case connector.AnchorTag:
		if a.Tag == "" {
			fault("anchor", "the anchor names no tag", "write the key of the tag that holds the date")
		}
	default:
		fault("anchor", "an object has no columns", "write anchor: modified, or a date in the name or in a tag")
	}
	if q.Collection != "" && !strings.HasSuffix(q.Collection, "/") {
		found = append(found, connector.Finding{Severity: connector.Warning, Subject: "collection",
			Text: "the prefix does not end in a slash, so that it also takes keys that only begin like it",
			Hint: "add the slash if a folder is meant"})
	}
	return found
}

func checkTraits(t *traits) []connector.Finding {
	var found []connector.Finding
	warn := func(text, hint string) {
		found = append(found, connector.Finding{Severity: connector.Warning, Subject: "collection", Text: text, Hint: hint})
	}
	for _, s := range t.hidden {
		warn("the bucket's "+s+" may not be read, and is taken to be on",
			map[string]string{"versioning": "grant s3:GetBucketVersioning", "object lock": "grant s3:GetBucketObjectLockConfiguration"}[s])
	}
	switch {
	case len(t.hidden) > 0 && t.hidden[0] == "versioning":
	case t.suspended:
		warn("the bucket is versioned (suspended): all versions and delete markers of a key go", "")
	case t.versioned:
		warn("the bucket is versioned: all versions and delete markers of a key go", "")
	}
	switch {
	case t.locked && t.mode != "":
		warn("the bucket has object lock with default retention in "+strings.ToLower(t.mode)+" mode: keys stay until it ends", "")
	case t.locked && len(t.hidden) == 0:
		warn("the bucket has object lock: keys with retention or legal hold stay", "")
	}
	return found
}

func permission(t *traits) string {
	if t.versioned {
		return "s3:ListBucketVersions"
	}
	return "s3:ListBucket"
}

func forbidden(what, grant string) connector.Finding {
	return connector.Finding{Severity: connector.Fault, Subject: "collection",
		Text: "the store denies " + what + " of the bucket", Hint: "grant " + grant}
}
