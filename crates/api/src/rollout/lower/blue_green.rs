//! The checked form of a blue-green strategy.

use super::Check;
use crate::problem::{FieldPath, Problem};
use crate::rollout::desired::BlueGreen;
use crate::rollout::spec::BlueGreenStrategy;

impl Check {
    pub(super) fn blue_green(
        &mut self,
        strategy: &BlueGreenStrategy,
        at: &FieldPath,
    ) -> Option<BlueGreen> {
        if strategy.active_service.is_empty() {
            self.report(Problem::required(
                at.field("activeService"),
                "name the Service of the users",
            ));
        }
        if strategy.preview_service.as_deref() == Some(&strategy.active_service) {
            let why = "must differ from activeService";
            self.report(Problem::invalid(
                at.field("previewService"),
                &strategy.active_service,
                why,
            ));
        }
        let preview = strategy.preview_replica_count.map(|_| {
            self.count(
                strategy.preview_replica_count,
                0,
                &at.field("previewReplicaCount"),
            )
        });
        let after = strategy.auto_promotion_seconds.unwrap_or(0);
        let after = self.seconds(Some(after), 0, &at.field("autoPromotionSeconds"));
        let abort_delay = self.seconds(
            strategy.abort_scale_down_delay_seconds,
            30,
            &at.field("abortScaleDownDelaySeconds"),
        );
        let pre = strategy.pre_promotion_analysis.as_ref();
        let post = strategy.post_promotion_analysis.as_ref();
        Some(BlueGreen {
            active_service: strategy.active_service.clone(),
            preview_service: strategy.preview_service.clone(),
            preview_replicas: preview.filter(|count| *count > 0),
            auto_promotion: strategy.auto_promotion_enabled.unwrap_or(true),
            auto_promotion_after: (!after.is_zero()).then_some(after),
            scale_down_delay: self.seconds(
                strategy.scale_down_delay_seconds,
                30,
                &at.field("scaleDownDelaySeconds"),
            ),
            delay_revision_limit: self.limit(
                strategy.scale_down_delay_revision_limit,
                &at.field("scaleDownDelayRevisionLimit"),
            ),
            max_unavailable: self.bound(
                strategy.max_unavailable.as_ref(),
                &at.field("maxUnavailable"),
            ),
            anti_affinity: self
                .anti_affinity(strategy.anti_affinity.as_ref(), &at.field("antiAffinity")),
            active_metadata: self.metadata(
                strategy.active_metadata.as_ref(),
                &at.field("activeMetadata"),
            ),
            preview_metadata: self.metadata(
                strategy.preview_metadata.as_ref(),
                &at.field("previewMetadata"),
            ),
            abort_scale_down_delay: (!abort_delay.is_zero()).then_some(abort_delay),
            pre_promotion: pre.map(|a| self.analysis(a, &at.field("prePromotionAnalysis"))),
            post_promotion: post.map(|a| self.analysis(a, &at.field("postPromotionAnalysis"))),
        })
    }
}
