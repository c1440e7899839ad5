use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize, de::Error as _};
use time::OffsetDateTime;

use crate::{Aws, Bytes, Error};

/// CloudFront is global; its API is in this Region.
const REGION: &str = "us-east-1";
const ADDRESS: &str = "https://cloudfront.amazonaws.com";
const NAMESPACE: &str = "http://cloudfront.amazonaws.com/doc/2020-05-31/";

/// An invalidation, in progress or completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalidation {
    /// Its id.
    pub id: String,
    /// When CloudFront accepted it. Objects cached before are not served any more.
    pub created_at: SystemTime,
}

#[derive(Serialize)]
#[serde(rename = "InvalidationBatch")]
struct BatchRequest<'a> {
    #[serde(rename = "@xmlns")]
    namespace: &'static str,
    #[serde(rename = "CallerReference")]
    reference: &'a str,
    #[serde(rename = "Paths")]
    paths: PathsRequest<'a>,
}

#[derive(Serialize)]
struct PathsRequest<'a> {
    #[serde(rename = "Items")]
    items: ItemsRequest<'a>,
    #[serde(rename = "Quantity")]
    quantity: usize,
}

#[derive(Serialize)]
struct ItemsRequest<'a> {
    #[serde(rename = "Path")]
    paths: &'a [&'a str],
}

/// `Invalidation`, or `InvalidationSummary`, which has no batch.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "CreateTime", with = "time::serde::rfc3339")]
    create_time: OffsetDateTime,
    #[serde(rename = "InvalidationBatch")]
    batch: Option<Batch>,
}

#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "Paths")]
    paths: Paths,
}

#[derive(Deserialize)]
struct Paths {
    #[serde(rename = "Items", default)]
    items: Items,
}

#[derive(Deserialize, Default)]
struct Items {
    #[serde(rename = "Path", default)]
    paths: Vec<String>,
}

#[derive(Deserialize)]
struct List {
    #[serde(rename = "Items", default)]
    items: Summaries,
}

#[derive(Deserialize, Default)]
struct Summaries {
    #[serde(rename = "InvalidationSummary", default)]
    summaries: Vec<Answer>,
}

impl Aws {
    /// Creates an invalidation for these paths, one or more. Idempotent by `reference`: a call with the same paths
    /// returns the first invalidation; a call with other paths is refused.
    /// <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_CreateInvalidation.html>
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_invalidation(
        &self,
        distribution: &str,
        reference: &str,
        paths: &[&str],
    ) -> Result<Invalidation, Error> {
        let paths = PathsRequest { items: ItemsRequest { paths }, quantity: paths.len() };
        let request = BatchRequest { namespace: NAMESPACE, reference, paths };
        let body = quick_xml::se::to_string(&request).map_err(unreadable)?;
        let answer = self.cloudfront("POST", &format!("{distribution}/invalidation"), body.into()).await?;
        Ok(read::<Answer>(&answer)?.into())
    }

    /// Lists a distribution's invalidations, newest first.
    /// <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_ListInvalidations.html>
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_invalidations(&self, distribution: &str, max: u8) -> Result<Vec<Invalidation>, Error> {
        let path = format!("{distribution}/invalidation?MaxItems={max}");
        let answer = self.cloudfront("GET", &path, Bytes::new()).await?;
        Ok(read::<List>(&answer)?.items.summaries.into_iter().map(Invalidation::from).collect())
    }

    /// Returns the paths of an invalidation.
    /// <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_GetInvalidation.html>
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_invalidation(&self, distribution: &str, id: &str) -> Result<Vec<String>, Error> {
        let answer =
            self.cloudfront("GET", &format!("{distribution}/invalidation/{id}"), Bytes::new()).await?;
        Ok(read::<Answer>(&answer)?.batch.map(|batch| batch.paths.items.paths).unwrap_or_default())
    }

    async fn cloudfront(&self, method: &'static str, path: &str, body: Bytes) -> Result<Bytes, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        let endpoint = self.endpoint.as_deref().unwrap_or(ADDRESS);
        let url = format!("{endpoint}/2020-05-31/distribution/{path}");
        let client = Self { region: REGION.to_owned(), ..self.clone() };
        client.send("cloudfront", method, &url, headers, body).await.map(|(_, body)| body)
    }
}

impl From<Answer> for Invalidation {
    fn from(answer: Answer) -> Self {
        let since_epoch = Duration::try_from(answer.create_time - OffsetDateTime::UNIX_EPOCH);
        Self { id: answer.id, created_at: SystemTime::UNIX_EPOCH + since_epoch.unwrap_or_default() }
    }
}

fn read<T: for<'de> Deserialize<'de>>(xml: &[u8]) -> Result<T, Error> {
    quick_xml::de::from_reader(xml).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Unreadable(serde_json::Error::custom(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_cloudfront_writes_them() {
        let list = r#"<?xml version="1.0" encoding="UTF-8"?>
            <InvalidationList xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/"><Marker></Marker>
            <MaxItems>2</MaxItems><IsTruncated>true</IsTruncated><NextMarker>B</NextMarker><Quantity>2</Quantity>
            <Items><InvalidationSummary><Id>A</Id><CreateTime>2019-12-05T18:40:49.413Z</CreateTime>
            <Status>Completed</Status></InvalidationSummary><InvalidationSummary><Id>B</Id>
            <CreateTime>2019-12-05T18:40:48Z</CreateTime><Status>Completed</Status></InvalidationSummary></Items>
            </InvalidationList>"#;
        let list: Vec<Invalidation> = read::<List>(list.as_bytes())
            .unwrap_or_else(|error| panic!("{error}"))
            .items
            .summaries
            .into_iter()
            .map(Into::into)
            .collect();
        assert_eq!(list.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        let apart = list[0].created_at.duration_since(list[1].created_at);
        assert_eq!(apart.ok(), Some(Duration::from_millis(1_413)));
        let none = "<InvalidationList><MaxItems>2</MaxItems><Quantity>0</Quantity></InvalidationList>";
        assert!(read::<List>(none.as_bytes()).is_ok_and(|list| list.items.summaries.is_empty()));
        let one = "<Invalidation><Id>A</Id><Status>InProgress</Status><CreateTime>2019-12-05T18:40:49Z</CreateTime>\
            <InvalidationBatch><Paths><Quantity>2</Quantity><Items><Path>/a&amp;b</Path><Path>/c*</Path></Items>\
            </Paths><CallerReference>r</CallerReference></InvalidationBatch></Invalidation>";
        let one = read::<Answer>(one.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            one.batch.map(|batch| batch.paths.items.paths),
            Some(vec!["/a&b".to_owned(), "/c*".to_owned()])
        );
    }
}
