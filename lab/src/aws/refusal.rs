//! An error in the words and the shape of the service that says it.

use axum::{
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::json;

#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: String,
    pub(super) message: String,
    /// EBS direct tells more than the code.
    pub(super) reason: Option<&'static str>,
}

/// How a service writes its errors.
enum Shape {
    Ec2,
    /// STS, IAM, CloudFormation and others of their age.
    Query,
    S3,
    Json,
}

impl Shape {
    fn of(service: &str) -> Self {
        match service {
            "ec2" => Self::Ec2,
            "sts" | "iam" | "cloudformation" | "autoscaling" | "sns" => Self::Query,
            "s3" => Self::S3,
            _ => Self::Json,
        }
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            reason: None,
        }
    }

    pub(super) fn forbidden(code: &str, message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(super) fn internal() -> Self {
        let message = "An internal error has occurred.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub(super) fn throttled(service: &str) -> Self {
        let (status, code) = match service {
            "ec2" => (StatusCode::SERVICE_UNAVAILABLE, "RequestLimitExceeded"),
            "s3" => (StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
            "organizations" => (StatusCode::BAD_REQUEST, "TooManyRequestsException"),
            "sts" | "iam" | "cloudformation" | "autoscaling" | "sns" => {
                (StatusCode::BAD_REQUEST, "Throttling")
            }
            _ => (StatusCode::BAD_REQUEST, "ThrottlingException"),
        };
        Self::new(status, code, "Rate exceeded")
    }

    pub(super) fn denied(service: &str, action: &str) -> Self {
        let code = match Shape::of(service) {
            Shape::Ec2 => "UnauthorizedOperation",
            Shape::Query | Shape::S3 => "AccessDenied",
            Shape::Json => "AccessDeniedException",
        };
        let mut refusal = Self::forbidden(
            code,
            &format!("You are not authorized to perform: {service}:{action}"),
        );
        refusal.reason = (service == "ebs").then_some("UNAUTHORIZED_ACCOUNT");
        refusal
    }

    pub(super) fn response(&self, service: &str) -> Response {
        let (code, message) = (escaped(&self.code), escaped(&self.message));
        let error = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        let body = match Shape::of(service) {
            Shape::Ec2 => format!("<Response><Errors>{error}</Errors><RequestID>lab</RequestID></Response>"),
            Shape::Query => format!("<ErrorResponse>{error}<RequestId>lab</RequestId></ErrorResponse>"),
            Shape::S3 => error,
            Shape::Json => return self.json(),
        };
        (self.status, [(CONTENT_TYPE, "text/xml")], body).into_response()
    }

    fn json(&self) -> Response {
        let mut body = json!({ "__type": self.code, "Message": self.message });
        if let Some(reason) = self.reason {
            body["Reason"] = reason.into();
        }
        let mut response = (self.status, axum::Json(body)).into_response();
        if let Ok(code) = HeaderValue::from_str(&self.code) {
            response.headers_mut().insert("x-amzn-errortype", code);
        }
        response
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
